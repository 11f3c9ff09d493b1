package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
)

// Status is what a coordinator is and does.
type Status struct {
	// Addr and TCPAddr are where it listens; TCPAddr is empty if it does not.
	Addr, TCPAddr string
	// Fingerprint and Authority are those of its certificate and of who issued it.
	Fingerprint, Authority string
	// Stats are its counters.
	Stats coord.Stats
}

// Order is the body of an order.
type Order struct {
	// Name, Key and Address say whom it is about; kick needs a name, a ban one at least.
	Name, Key, Address string `json:",omitempty"`
	// Reason is told to who is removed.
	Reason string `json:",omitempty"`
	// Seconds is how long a ban lasts, 0: for good; or in how many clients are sent away.
	Seconds float64 `json:",omitempty"`
}

// Removed answers an order.
type Removed struct {
	// Clients is how many were disconnected.
	Clients int
}

// Failure is the body of an answer that is none.
type Failure struct{ Error string }

func (a *Admin) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	if _, err := a.coordinator.Bans(ctx); err != nil { // its actor answers
		writeError(w, http.StatusServiceUnavailable, "the coordinator does not answer")
		return
	}
	writeJSON(w, struct{ Status string }{"ok"})
}

func (a *Admin) ready(w http.ResponseWriter, r *http.Request) {
	if a.coordinator.Stats().Draining {
		writeError(w, http.StatusServiceUnavailable, "draining")
		return
	}
	a.health(w, r)
}

func (a *Admin) status(w http.ResponseWriter, _ *http.Request) {
	c := a.coordinator
	status := Status{Addr: c.Addr().String(), Fingerprint: c.Fingerprint(), Authority: c.AuthorityFingerprint(), Stats: c.Stats()}
	if tcp := c.TCPAddr(); tcp.IsValid() {
		status.TCPAddr = tcp.String()
	}
	writeJSON(w, status)
}

func (a *Admin) clients(w http.ResponseWriter, r *http.Request) { answer(w, r, a.coordinator.Usage) }

func (a *Admin) groups(w http.ResponseWriter, r *http.Request) { answer(w, r, a.coordinator.Groups) }
func (a *Admin) bans(w http.ResponseWriter, r *http.Request)   { answer(w, r, a.coordinator.Bans) }

func (a *Admin) kick(w http.ResponseWriter, r *http.Request) {
	a.order(w, r, func(ctx context.Context, order Order) (int, error) {
		return 1, a.coordinator.Kick(ctx, order.Name, order.Reason)
	})
}

func (a *Admin) ban(w http.ResponseWriter, r *http.Request) {
	a.order(w, r, func(ctx context.Context, order Order) (int, error) {
		ban, err := order.ban(time.Now())
		if err != nil {
			return 0, err
		}
		return a.coordinator.Ban(ctx, ban)
	})
}

func (a *Admin) unban(w http.ResponseWriter, r *http.Request) {
	a.order(w, r, func(ctx context.Context, order Order) (int, error) {
		ban, err := order.ban(time.Now())
		if err != nil {
			return 0, err
		}
		return 0, a.coordinator.Unban(ctx, ban)
	})
}

// drain answers when it has begun: it may take longer than who asks wants to wait.
func (a *Admin) drain(w http.ResponseWriter, r *http.Request) {
	a.order(w, r, func(ctx context.Context, order Order) (int, error) {
		clients := a.coordinator.Stats().Attached
		err := a.coordinator.Drain(ctx, seconds(order.Seconds))
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil // it goes on
		}
		return clients, err
	})
}

// maxSeconds is a hundred years.
const maxSeconds = 100 * 366 * 24 * 60 * 60

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// ban is what an order says about whom to keep away.
func (o Order) ban(now time.Time) (policy.Ban, error) {
	ban := policy.Ban{Name: o.Name, Key: o.Key, Reason: o.Reason}
	if o.Seconds > 0 {
		ban.Until = now.Add(seconds(o.Seconds))
	}
	if o.Address == "" {
		return ban, nil
	}
	prefix, err := netip.ParsePrefix(o.Address)
	if err != nil {
		addr, err := netip.ParseAddr(o.Address)
		if err != nil {
			return ban, fmt.Errorf("address %q: want an address, or one with the length of a prefix", o.Address)
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	ban.Addr = prefix
	return ban, nil
}

// answer asks the coordinator for something.
func answer[T any](w http.ResponseWriter, r *http.Request, ask func(context.Context) (T, error)) {
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	value, err := ask(ctx)
	if err != nil {
		writeError(w, codeOf(err), err.Error())
		return
	}
	writeJSON(w, value)
}

// order has the coordinator do something.
func (a *Admin) order(w http.ResponseWriter, r *http.Request, do func(context.Context, Order) (int, error)) {
	var order Order
	body := json.NewDecoder(r.Body)
	body.DisallowUnknownFields()
	if err := body.Decode(&order); err != nil {
		writeError(w, http.StatusBadRequest, "body: "+err.Error())
		return
	}
	if order.Seconds < 0 || order.Seconds > maxSeconds {
		writeError(w, http.StatusBadRequest, fmt.Sprintf("%v seconds: want 0 to %d", order.Seconds, maxSeconds))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	removed, err := do(ctx, order)
	a.config.Logger.Info("admin order", "addr", r.RemoteAddr, "path", r.URL.Path, "peer", order.Name, "err", err)
	if err != nil {
		writeError(w, codeOf(err), err.Error())
		return
	}
	writeJSON(w, Removed{removed})
}

// codeOf is the HTTP status for an error.
func codeOf(err error) int {
	switch {
	case errors.Is(err, messages.ErrNoSuchPeer):
		return http.StatusNotFound
	case errors.Is(err, messages.ErrLimit):
		return http.StatusTooManyRequests
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	case errors.Is(err, messages.ErrClosed):
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

func writeJSON(w http.ResponseWriter, value any) { write(w, http.StatusOK, value) }

func writeError(w http.ResponseWriter, code int, why string) { write(w, code, Failure{why}) }

func write(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(value) // who asked may have gone
}
