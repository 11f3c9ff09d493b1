package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/coord/policy"
)

// Client asks an endpoint. Its methods block until it has answered, or ctx ends.
type Client struct {
	// Addr is where it is, "host:port". If empty, [DefaultAddr].
	Addr string
	// Token is what it wants, if it does.
	Token string
}

// Status returns what the coordinator is and does.
func (c *Client) Status(ctx context.Context) (Status, error) { return get[Status](ctx, c, "status") }

// Clients returns who is attached, by name.
func (c *Client) Clients(ctx context.Context) ([]coord.ClientUsage, error) {
	return get[[]coord.ClientUsage](ctx, c, "clients")
}

// Groups returns all groups, by name.
func (c *Client) Groups(ctx context.Context) ([]coord.GroupInfo, error) {
	return get[[]coord.GroupInfo](ctx, c, "groups")
}

// Bans returns the bans that were ordered and have not ended.
func (c *Client) Bans(ctx context.Context) ([]policy.Ban, error) {
	return get[[]policy.Ban](ctx, c, "bans")
}

// Kick orders what [coord.Coordinator.Kick] does. Like all orders it returns how many clients
// were disconnected, or will be.
func (c *Client) Kick(ctx context.Context, order Order) (int, error) {
	return c.order(ctx, "kick", order)
}

// Ban orders what [coord.Coordinator.Ban] does.
func (c *Client) Ban(ctx context.Context, order Order) (int, error) {
	return c.order(ctx, "ban", order)
}

// Unban orders what [coord.Coordinator.Unban] does.
func (c *Client) Unban(ctx context.Context, order Order) (int, error) {
	return c.order(ctx, "unban", order)
}

// Drain orders what [coord.Coordinator.Drain] does. It does not wait until all clients have
// gone.
func (c *Client) Drain(ctx context.Context, order Order) (int, error) {
	return c.order(ctx, "drain", order)
}

func get[T any](ctx context.Context, c *Client, what string) (value T, err error) {
	err = c.do(ctx, http.MethodGet, what, nil, &value)
	return value, err
}

func (c *Client) order(ctx context.Context, what string, order Order) (int, error) {
	body, err := json.Marshal(order)
	if err != nil {
		return 0, err
	}
	var removed Removed
	err = c.do(ctx, http.MethodPost, what, body, &removed)
	return removed.Clients, err
}

// maxAnswer is how many bytes of an answer are read: tens of thousands of clients.
const maxAnswer = 64 << 20

// exchangeTimeout is more than an endpoint takes to answer anything.
const exchangeTimeout = 30 * time.Second

// do asks, and decodes the answer into value.
func (c *Client) do(ctx context.Context, method, what string, body []byte, value any) error {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	addr := c.Addr
	if addr == "" {
		addr = DefaultAddr
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+addr+"/v1/"+what, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("admin endpoint: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	// Not by a proxy, and with a connection of its own: nothing is left behind.
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("admin endpoint: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("admin endpoint: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		var failure Failure
		if json.Unmarshal(text, &failure) != nil || failure.Error == "" {
			failure.Error = answer.Status
		}
		return fmt.Errorf("admin endpoint: %w", errors.New(failure.Error))
	}
	if err := json.Unmarshal(text, value); err != nil {
		return fmt.Errorf("admin endpoint: %w", err)
	}
	return nil
}
