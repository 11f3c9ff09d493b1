package coord_test

import (
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/coord"
)

func TestConfigValidate(t *testing.T) {
	for name, test := range map[string]struct {
		config *coord.Config
		want   []string // each on a line of its own; none if the configuration is good
	}{
		"nil":                {nil, nil},
		"zero":               {&coord.Config{}, nil},
		"all":                {&coord.Config{Addr: "[::1]:0", KeepAlive: -1, IdleTimeout: time.Second, Limits: coord.Limits{Clients: 1}}, nil},
		"no port":            {&coord.Config{Addr: "0.0.0.0"}, []string{"Addr: "}},
		"port by name":       {&coord.Config{Addr: ":conec"}, []string{`Addr: port "conec"`}},
		"TCP":                {&coord.Config{TCPAddr: "127.0.0.1:0"}, nil},
		"no TCP":             {&coord.Config{TCPAddr: "none"}, nil},
		"TCP, no port":       {&coord.Config{TCPAddr: "127.0.0.1"}, []string{"TCPAddr: "}},
		"alternate":          {&coord.Config{Alternate: "127.0.0.1:0"}, nil},
		"no alternate":       {&coord.Config{Alternate: "none"}, nil},
		"alternate, no port": {&coord.Config{Alternate: "127.0.0.1"}, []string{"Alternate: "}},
		"large port":         {&coord.Config{Addr: ":65536"}, []string{`Addr: port "65536"`}},
		"everything at once": {
			&coord.Config{
				Addr: "x", IdleTimeout: -1,
				Limits: coord.Limits{
					Clients: -1, ChannelsPerClient: -1, PendingPerClient: -1, RelayRate: -1, RelayClientRate: -1, RelayTotalRate: -1,
					AttachTimeout: -1, AnswerTimeout: -1, RestoreTimeout: -1,
				},
			},
			[]string{
				"Addr: ", "IdleTimeout is -1", "Limits.Clients is -1", "Limits.ChannelsPerClient is -1",
				"Limits.PendingPerClient is -1", "Limits.RelayRate is -1", "Limits.RelayClientRate is -1", "Limits.RelayTotalRate is -1", "Limits.AttachTimeout is -1",
				"Limits.AnswerTimeout is -1", "Limits.RestoreTimeout is -1",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.config.Validate()
			if len(test.want) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatalf("it is good, want %q", test.want)
			}
			lines := strings.Split(err.Error(), "\n")
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
}
