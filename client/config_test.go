package client_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
)

func TestConfigValidate(t *testing.T) {
	identity, err := client.NewIdentity("bob", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	good := client.Config{Name: "alice", Coordinator: "coord.example.net"}
	for name, test := range map[string]struct {
		change func(c *client.Config)
		want   []string // each on a line of its own; none if the configuration is good
	}{
		"least":                   {func(*client.Config) {}, nil},
		"port":                    {func(c *client.Config) { c.Coordinator = "192.0.2.1:1719" }, nil},
		"IPv6":                    {func(c *client.Config) { c.Coordinator = "[2001:db8::1]:1719" }, nil},
		"IPv6 without port":       {func(c *client.Config) { c.Coordinator = "[2001:db8::1]" }, nil},
		"no keepalive":            {func(c *client.Config) { c.KeepAlive = -1 }, nil},
		"no name":                 {func(c *client.Config) { c.Name = "" }, []string{"Name: invalid name"}},
		"bad name":                {func(c *client.Config) { c.Name = "Alice" }, []string{"Name: invalid name"}},
		"no coordinator":          {func(c *client.Config) { c.Coordinator = "" }, []string{"Coordinator: is empty"}},
		"no host":                 {func(c *client.Config) { c.Coordinator = ":1719" }, []string{"Coordinator: "}},
		"port 0":                  {func(c *client.Config) { c.Coordinator = "host:0" }, []string{"Coordinator: "}},
		"port by name":            {func(c *client.Config) { c.Coordinator = "host:conec" }, []string{"Coordinator: "}},
		"IPv6 without brackets":   {func(c *client.Config) { c.Coordinator = "2001:db8::1" }, []string{"Coordinator: "}},
		"fingerprint":             {func(c *client.Config) { c.Fingerprint = "sha256:00" }, []string{"Fingerprint: "}},
		"bind":                    {func(c *client.Config) { c.Bind = "0.0.0.0" }, []string{"Bind: "}},
		"TCP":                     {func(c *client.Config) { c.TCPAddr = "coord.example.net:443" }, nil},
		"no TCP, no proxy":        {func(c *client.Config) { c.TCPAddr, c.Proxy = "none", "none" }, nil},
		"TCP, no host":            {func(c *client.Config) { c.TCPAddr = ":443" }, []string{"TCPAddr: "}},
		"proxy":                   {func(c *client.Config) { c.Proxy = "http://user:secret@proxy.example.net" }, nil},
		"proxy without scheme":    {func(c *client.Config) { c.Proxy = "proxy.example.net:3128" }, []string{"Proxy: want http://"}},
		"another kind of proxy":   {func(c *client.Config) { c.Proxy = "socks5://proxy.example.net" }, []string{"Proxy: want http://"}},
		"proxy without host":      {func(c *client.Config) { c.Proxy = "http://:3128" }, []string{"Proxy: want http://"}},
		"certificate for another": {func(c *client.Config) { c.Identity = identity }, []string{`Identity: certificate is for another name: it is for "bob", Name is "alice"`}},
		"everything at once": {func(c *client.Config) {
			*c = client.Config{
				Name: "-", Coordinator: ":", Fingerprint: "x", Bind: "x", MaxMessage: -1, MaxChannels: -1,
				MaxStreams: -1, Backlog: -1, IdleTimeout: -1, OpenTimeout: -1,
			}
		}, []string{
			"Name: ", "Coordinator: ", "Fingerprint: ", "Bind: ", "MaxMessage is -1", "MaxChannels is -1",
			"MaxStreams is -1", "Backlog is -1", "IdleTimeout is -1", "OpenTimeout is -1",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			config := good
			test.change(&config)
			err := config.Validate()
			if len(test.want) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			lines := strings.Split(text(err), "\n")
			if len(lines) != len(test.want) {
				t.Fatalf("%d lines, want %d:\n%v", len(lines), len(test.want), err)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("line %d is %q, want %q", i, lines[i], want)
				}
			}
		})
	}
	if err := (*client.Config)(nil).Validate(); err == nil {
		t.Error("no configuration at all is good")
	}
	config := good
	config.Name = ""
	if err := config.Validate(); !errors.Is(err, messages.ErrNameInvalid) {
		t.Errorf("%v does not match ErrNameInvalid", err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestModeString(t *testing.T) {
	for mode, want := range map[client.Mode]string{
		client.Automatic: "automatic", client.DirectOnly: "direct only", client.RelayOnly: "relay only", 7: "mode 7",
	} {
		if got := mode.String(); got != want {
			t.Errorf("mode %d is %q, want %q", int(mode), got, want)
		}
	}
}

// TestConfigHidesSecrets prints and logs a configuration.
func TestConfigHidesSecrets(t *testing.T) {
	config := client.Config{Name: "alice", JoinToken: "s3cret-token", Proxy: "http://user:s3cret-word@proxy.example.net:3128"}
	var log strings.Builder
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("config", "value", config, "pointer", &config)
	wrong := client.Config{Name: "alice", Proxy: "https://user:s3cret-word@proxy.example.net"}
	if text := fmt.Sprint(wrong); strings.Contains(text, "s3cret") || !strings.Contains(text, "hidden") {
		t.Error(text)
	}
	for _, text := range []string{fmt.Sprint(config), fmt.Sprintf("%+v", &config), fmt.Sprintf("%#v", config), log.String()} {
		if !strings.Contains(text, "alice") || !strings.Contains(text, "proxy.example.net") || strings.Contains(text, "s3cret") {
			t.Error(text)
		}
	}
}
