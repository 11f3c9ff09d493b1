package sim_test

import (
	"encoding"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conec-go/conec/sim"
)

// TestNATWords holds the words that topology files use, both ways.
func TestNATWords(t *testing.T) {
	dependence := func() encoding.TextUnmarshaler { return new(sim.Dependence) }
	policy := func() encoding.TextUnmarshaler { return new(sim.PortPolicy) }
	for _, test := range []struct {
		word  string
		value encoding.TextMarshaler
		empty func() encoding.TextUnmarshaler
	}{
		{"endpoint-independent", sim.EndpointIndependent, dependence},
		{"address-dependent", sim.AddressDependent, dependence},
		{"address-and-port-dependent", sim.AddressAndPortDependent, dependence},
		{"preserve", sim.PreservePorts, policy},
		{"sequential", sim.SequentialPorts, policy},
		{"random", sim.RandomPorts, policy},
	} {
		text, err := test.value.MarshalText()
		if err != nil || string(text) != test.word {
			t.Errorf("%v as text: got %q, %v, want %q", test.value, text, err, test.word)
		}
		if got := test.value.(interface{ String() string }).String(); got != test.word {
			t.Errorf("String: got %q, want %q", got, test.word)
		}
		back := test.empty()
		if err := back.UnmarshalText(text); err != nil {
			t.Errorf("read %q: %v", text, err)
		}
		if again, err := back.(encoding.TextMarshaler).MarshalText(); err != nil || string(again) != test.word {
			t.Errorf("%q read and written: got %q, %v", text, again, err)
		}
		if err := test.empty().UnmarshalText([]byte("nonsense")); err == nil || !strings.Contains(err.Error(), test.word) {
			t.Errorf("read nonsense: got error %v, want one that names %q", err, test.word)
		}
	}
	if text, err := sim.Dependence(3).MarshalText(); err == nil {
		t.Errorf("dependence 3 as text: got %q, want an error", text)
	}
	if got := sim.PortPolicy(7).String(); got != "port policy 7" {
		t.Errorf("String: got %q", got)
	}
}

// TestNATPresets holds what the names of RFC 3489 and of issue trackers mean.
func TestNATPresets(t *testing.T) {
	type behavior struct {
		Mapping, Filtering sim.Dependence
		Ports              sim.PortPolicy
		EarlyTakes, Routed bool
	}
	const (
		all  = sim.EndpointIndependent
		addr = sim.AddressDependent
		port = sim.AddressAndPortDependent
	)
	for name, test := range map[string]struct {
		nat  sim.NAT
		want behavior
	}{
		"zero":               {sim.NAT{}, behavior{Mapping: all, Filtering: all}},
		"full cone":          {sim.FullCone(), behavior{Mapping: all, Filtering: all}},
		"address restricted": {sim.AddressRestricted(), behavior{Mapping: all, Filtering: addr}},
		"port restricted":    {sim.PortRestricted(), behavior{Mapping: all, Filtering: port}},
		"symmetric":          {sim.Symmetric(), behavior{Mapping: port, Filtering: port, Ports: sim.RandomPorts}},
		"open masquerade":    {sim.OpenMasquerade(), behavior{Mapping: port, Filtering: port, EarlyTakes: true}},
		"firewall":           {sim.Firewall(), behavior{Filtering: port, Routed: true}},
	} {
		if err := test.nat.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got := behavior{test.nat.Mapping, test.nat.Filtering, test.nat.Ports, test.nat.EarlyTakes, test.nat.Routed}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestNATValidate(t *testing.T) {
	for name, test := range map[string]struct {
		nat  sim.NAT
		want []string // what the error says; none if there is none
	}{
		"all set": {sim.NAT{
			Mapping: sim.AddressDependent, Filtering: sim.AddressAndPortDependent, Ports: sim.SequentialPorts,
			Timeout: 30 * time.Second, Limit: 64_512, Inside: netip.MustParsePrefix("100.64.0.0/10"),
		}, nil},
		"smallest inside": {sim.NAT{Inside: netip.MustParsePrefix("10.0.0.4/30")}, nil},
		"mapping":         {sim.NAT{Mapping: 3}, []string{"Mapping: dependence 3: want one of endpoint-independent"}},
		"filtering":       {sim.NAT{Filtering: 9}, []string{"Filtering: dependence 9"}},
		"ports":           {sim.NAT{Ports: 3}, []string{"Ports: port policy 3: want one of preserve, sequential, random"}},
		"timeout":         {sim.NAT{Timeout: -time.Second}, []string{"Timeout is -1s: want 0 for 2m0s, or more"}},
		"limit":           {sim.NAT{Limit: -1}, []string{"Limit is -1"}},
		"limit over all":  {sim.NAT{Limit: 64_513}, []string{"Limit is 64513: want 0 for 16384, or 1 to 64512"}},
		"inside is IPv6":  {sim.NAT{Inside: netip.MustParsePrefix("2001:db8::/64")}, []string{"Inside is 2001:db8::/64: want an IPv4 network"}},
		"inside is a host's": {
			sim.NAT{Inside: netip.MustParsePrefix("192.168.1.7/24")},
			[]string{"Inside is 192.168.1.7/24: want the network's address, 192.168.1.0/24"},
		},
		"inside is invalid": {sim.NAT{Inside: netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), 40)}, []string{"Inside is"}},
		"inside is small":   {sim.NAT{Inside: netip.MustParsePrefix("10.0.0.0/31")}, []string{"Inside is 10.0.0.0/31: want room"}},
		"everything at once": {
			sim.NAT{Mapping: 3, Filtering: 3, Ports: 3, Timeout: -1, Limit: -1, Inside: netip.MustParsePrefix("::/0")},
			[]string{"Mapping", "Filtering", "Ports", "Timeout", "Limit", "Inside"},
		},
	} {
		err := test.nat.Validate()
		if len(test.want) == 0 && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got error %v, want one that says %q", name, err, want)
			}
		}
	}
}
