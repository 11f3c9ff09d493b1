package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"golang.org/x/net/netutil"

	"github.com/conec-go/conec/coord"
)

// DefaultAddr is where an admin endpoint listens unless it is told otherwise.
const DefaultAddr = "127.0.0.1:1720"

// Limits of an endpoint.
const (
	maxConnections = 64
	maxBody        = 64 << 10 // bytes
	maxHeader      = 16 << 10 // bytes
	minToken       = 16       // bytes
	askTimeout     = 5 * time.Second
	readTimeout    = 10 * time.Second
	idleTimeout    = time.Minute
)

// Config says how an endpoint is reached. A nil *Config and zero fields mean the defaults.
type Config struct {
	// Addr is the TCP address to listen on. If empty, [DefaultAddr]. Port 0 picks a free one.
	Addr string
	// Token is what requests have to bear, in the header "Authorization: Bearer TOKEN"; at
	// least 16 bytes. If empty, none is needed, and Addr has to be a loopback address.
	Token string
	// Metrics serves /metrics; see [NewMeters]. If nil, there are none.
	Metrics http.Handler
	// Profile serves /debug/pprof, which shows more than anybody should see.
	Profile bool
	// Logger receives logs: every order, and what is refused. If nil, none.
	Logger *slog.Logger
}

// Validate reports everything that is wrong with the configuration.
func (c *Config) Validate() error {
	if c == nil {
		return nil
	}
	var errs []error
	if c.Token != "" && len(c.Token) < minToken {
		errs = append(errs, fmt.Errorf("the Token has %d bytes: want at least %d", len(c.Token), minToken))
	}
	if c.Addr != "" {
		host, _, err := net.SplitHostPort(c.Addr)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("Addr: %w: want host:port, such as %q", err, DefaultAddr))
		case c.Token == "" && !isLoopback(host):
			errs = append(errs, fmt.Errorf("Addr %s: others can reach it: want a Token, or a loopback address", c.Addr))
		}
	}
	return errors.Join(errs...)
}

// isLoopback reports whether only this host reaches a host.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// NewMeters makes a meter provider for [coord.Config], and what serves its metrics in
// Prometheus' format.
func NewMeters() (metric.MeterProvider, http.Handler, error) {
	registry := prometheus.NewRegistry()
	reader, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo())
	if err != nil {
		return nil, nil, fmt.Errorf("metrics: %w", err)
	}
	return sdk.NewMeterProvider(sdk.WithReader(reader)), promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), nil
}

// Admin is an endpoint that is being served.
type Admin struct {
	coordinator *coord.Coordinator
	config      Config
	listener    net.Listener
	http        *http.Server
	served      chan error
}

// Serve serves an endpoint for a coordinator until [Admin.Close], which has to come before the
// coordinator's. It fails if the configuration is wrong or the address is in use.
func Serve(c *coord.Coordinator, config *Config) (*Admin, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("admin config: %w", err)
	}
	a := &Admin{coordinator: c, served: make(chan error, 1)}
	if config != nil {
		a.config = *config
	}
	if a.config.Addr == "" {
		a.config.Addr = DefaultAddr
	}
	if a.config.Logger == nil {
		a.config.Logger = slog.New(slog.DiscardHandler)
	}
	listener, err := net.Listen("tcp", a.config.Addr)
	if err != nil {
		return nil, fmt.Errorf("admin endpoint: %w", err)
	}
	a.listener = netutil.LimitListener(listener, maxConnections)
	a.http = &http.Server{
		Handler: a.guard(a.routes()), ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(a.config.Logger.Handler(), slog.LevelDebug),
	}
	go func() { a.served <- a.http.Serve(a.listener) }()
	return a, nil
}

// Addr returns the address that it listens on.
func (a *Admin) Addr() net.Addr { return a.listener.Addr() }

// Close ends the endpoint once its requests are answered, or ctx ends.
func (a *Admin) Close(ctx context.Context) error {
	err := a.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, a.http.Close())
	}
	if served := <-a.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// routes are what there is to be asked.
func (a *Admin) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.health)
	mux.HandleFunc("GET /readyz", a.ready)
	mux.HandleFunc("GET /v1/status", a.status)
	mux.HandleFunc("GET /v1/clients", a.clients)
	mux.HandleFunc("GET /v1/groups", a.groups)
	mux.HandleFunc("GET /v1/bans", a.bans)
	mux.HandleFunc("POST /v1/kick", a.kick)
	mux.HandleFunc("POST /v1/ban", a.ban)
	mux.HandleFunc("POST /v1/unban", a.unban)
	mux.HandleFunc("POST /v1/drain", a.drain)
	if a.config.Metrics != nil {
		mux.Handle("GET /metrics", a.config.Metrics)
	}
	if a.config.Profile {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// guard turns away who may not ask.
func (a *Admin) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		probe := r.URL.Path == "/healthz" || r.URL.Path == "/readyz"
		switch {
		case probe:
		case a.config.Token != "" && !a.bears(r):
			a.refuse(w, r, http.StatusUnauthorized, "this endpoint wants a token: Authorization: Bearer TOKEN")
			return
		case a.config.Token == "" && !namesAddress(r.Host):
			a.refuse(w, r, http.StatusForbidden, "ask for this host by its address, or as localhost") // a page may have had its own name lead here
			return
		case r.Method != http.MethodGet && r.Header.Get("Content-Type") != "application/json":
			a.refuse(w, r, http.StatusUnsupportedMediaType, "an order is JSON: Content-Type: application/json") // a page can not send that here unasked
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// bears reports whether a request has the token. It takes the same time whatever is wrong.
func (a *Admin) bears(r *http.Request) bool {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(a.config.Token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// namesAddress reports whether the host that a request was for is an address or localhost.
func namesAddress(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	return isLoopback(host)
}

func (a *Admin) refuse(w http.ResponseWriter, r *http.Request, code int, why string) {
	a.config.Logger.Warn("admin request refused", "addr", r.RemoteAddr, "path", r.URL.Path, "err", why)
	writeError(w, code, why)
}
