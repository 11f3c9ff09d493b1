package admin_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/coord/admin"
)

const token = "0123456789abcdef"

// serve runs a coordinator and an endpoint for it.
func serve(t *testing.T, config admin.Config) (*coord.Coordinator, *admin.Admin) {
	t.Helper()
	meters, metrics, err := admin.NewMeters()
	if err != nil {
		t.Fatal(err)
	}
	c, err := coord.Start(t.Context(), &coord.Config{Addr: "127.0.0.1:0", Meters: meters})
	if err != nil {
		t.Fatal(err)
	}
	config.Metrics = metrics
	if config.Addr == "" {
		config.Addr = "127.0.0.1:0"
	}
	a, err := admin.Serve(c, &config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := a.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return c, a
}

// ask makes one request and returns status and body.
func ask(t *testing.T, a *admin.Admin, method, path, body string, header map[string]string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.Addr().String()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		if name == "Host" {
			request.Host = value
		}
		request.Header.Set(name, value)
	}
	answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

var isJSON = map[string]string{"Content-Type": "application/json"}

// TestGuard shows who is turned away, by an endpoint with a token and by one without.
func TestGuard(t *testing.T) {
	_, open := serve(t, admin.Config{})
	_, closed := serve(t, admin.Config{Token: token, Addr: "0.0.0.0:0"})
	for _, test := range []struct {
		name         string
		to           *admin.Admin
		method, path string
		body         string
		header       map[string]string
		want         int
	}{
		{"without a token, as localhost", open, "GET", "/v1/status", "", map[string]string{"Host": "localhost"}, 200},
		{"a name that leads here", open, "GET", "/v1/status", "", map[string]string{"Host": "attacker.example:1720"}, 403},
		{"an address of another host", open, "GET", "/v1/status", "", map[string]string{"Host": "192.0.2.1:1720"}, 403},
		{"an order of a page", open, "POST", "/v1/kick", `{"Name":"bob"}`, map[string]string{"Content-Type": "text/plain"}, 415},
		{"an order", open, "POST", "/v1/kick", `{"Name":"bob"}`, isJSON, 404},
		{"an order with a field too many", open, "POST", "/v1/kick", `{"Nickname":"bob"}`, isJSON, 400},
		{"an order that is too large", open, "POST", "/v1/kick", `{"Name":"` + strings.Repeat("x", 70<<10) + `"}`, isJSON, 400},
		{"a ban of nobody", open, "POST", "/v1/ban", `{}`, isJSON, 400},
		{"a ban of what is no address", open, "POST", "/v1/ban", `{"Address":"here"}`, isJSON, 400},
		{"the wrong method", open, "GET", "/v1/kick", "", nil, 405},
		{"profiles that were not asked for", open, "GET", "/debug/pprof/heap", "", nil, 404},
		{"without the token", closed, "GET", "/v1/status", "", nil, 401},
		{"metrics without the token", closed, "GET", "/metrics", "", nil, 401},
		{"a wrong token", closed, "GET", "/v1/status", "", map[string]string{"Authorization": "Bearer 0123456789abcdeg"}, 401},
		{"a part of the token", closed, "GET", "/v1/status", "", map[string]string{"Authorization": "Bearer 0123"}, 401},
		{"the token", closed, "GET", "/v1/status", "", map[string]string{"Authorization": "Bearer " + token}, 200},
		{"a probe", closed, "GET", "/healthz", "", nil, 200},
		{"a probe of readiness", closed, "GET", "/readyz", "", nil, 200},
	} {
		if code, text := ask(t, test.to, test.method, test.path, test.body, test.header); code != test.want {
			t.Errorf("%s: %d %s, want %d", test.name, code, text, test.want)
		} else if strings.Contains(text, token) {
			t.Errorf("%s: shows the token", test.name)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		config admin.Config
		want   string
	}{
		{admin.Config{Addr: "0.0.0.0:1720"}, "others can reach it"},
		{admin.Config{Addr: ":1720"}, "others can reach it"},
		{admin.Config{Addr: "coord.example.net:1720"}, "others can reach it"},
		{admin.Config{Addr: "1720"}, "want host:port"},
		{admin.Config{Token: "short"}, "at least 16"},
		{admin.Config{Addr: "0.0.0.0:1720", Token: token}, ""},
		{admin.Config{Addr: "[::1]:1720"}, ""},
		{admin.Config{}, ""},
	} {
		err := test.config.Validate()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: %v, want %q", test.config, err, test.want)
		}
	}
}

// TestClient asks for everything and orders everything.
func TestClient(t *testing.T) {
	c, a := serve(t, admin.Config{Token: token})
	caller := &admin.Client{Addr: a.Addr().String(), Token: token}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	status, err := caller.Status(ctx)
	if err != nil || status.Fingerprint != c.Fingerprint() || status.Addr != c.Addr().String() {
		t.Errorf("%+v, %v", status, err)
	}
	if n, err := caller.Ban(ctx, admin.Order{Name: "guest-*", Address: "192.0.2.7", Seconds: 60, Reason: "noise"}); n != 0 || err != nil {
		t.Error(n, err)
	}
	bans, err := caller.Bans(ctx)
	if err != nil || len(bans) != 1 || bans[0].Name != "guest-*" || bans[0].Addr.String() != "192.0.2.7/32" || time.Until(bans[0].Until) > time.Minute {
		t.Errorf("%+v, %v", bans, err)
	}
	if _, err := caller.Unban(ctx, admin.Order{Name: "guest-*", Address: "192.0.2.7/32"}); err != nil {
		t.Error(err)
	}
	if _, err := caller.Kick(ctx, admin.Order{Name: "bob"}); err == nil || !strings.Contains(err.Error(), "no such peer") {
		t.Error(err)
	}
	if clients, err := caller.Clients(ctx); err != nil || len(clients) != 0 {
		t.Error(clients, err)
	}
	if groups, err := caller.Groups(ctx); err != nil || len(groups) != 0 {
		t.Error(groups, err)
	}
	_, text := ask(t, a, "GET", "/metrics", "", map[string]string{"Authorization": "Bearer " + token})
	for _, want := range []string{"conec_coord_clients", "conec_coord_relay_bytes_total", `reason="rate_limited"`} {
		if !bytes.Contains([]byte(text), []byte(want)) {
			t.Errorf("no %s in the metrics:\n%s", want, text)
		}
	}
	if _, err := caller.Drain(ctx, admin.Order{}); err != nil {
		t.Error(err)
	}
	if code, text := ask(t, a, "GET", "/readyz", "", nil); code != 503 || !strings.Contains(text, "draining") {
		t.Error(code, text)
	}
	if code, _ := ask(t, a, "GET", "/healthz", "", nil); code != 200 {
		t.Error("a coordinator that drains is not healthy")
	}
	wrong := &admin.Client{Addr: a.Addr().String(), Token: "another token altogether"}
	if _, err := wrong.Status(ctx); err == nil || !strings.Contains(err.Error(), "wants a token") {
		t.Error(err)
	}
}
