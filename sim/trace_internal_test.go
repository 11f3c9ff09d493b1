package sim

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var update = flag.Bool("update", false, "write golden files anew")

// golden compares a text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want, have := strings.Split(string(text), "\n"), strings.Split(got, "\n")
	for i := range max(len(want), len(have)) {
		if i >= len(want) || i >= len(have) || want[i] != have[i] {
			t.Errorf("%s differs from line %d on\nwant %q\ngot  %q\nIf that is right: go test ./sim -run '^%s$' -update",
				file, i+1, want[min(i, len(want)):min(i+1, len(want))], have[min(i, len(have)):min(i+1, len(have))], t.Name())
			return
		}
	}
}

// script plays a scenario that consists of logs and packets only.
type script struct {
	*testing.T
	network *Network
	trace   *trace
}

// inScript runs a scenario in a bubble.
func inScript(t *testing.T, limits traceLimits, play func(s *script)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &script{T: t, network: NewNetwork(7)}
		defer s.network.Close()
		s.trace = newTrace(s.network, limits)
		defer s.trace.close()
		s.trace.repeat = "CONEC_SIM_SEED=7 go test ./sim -run '^TestX$'"
		play(s)
	})
}

// hub is what clients call the coordinator.
const hub = "203.0.113.1:1719"

// says logs a control message where it is sent and, after a while, where it is
// received; if that is negative, it never is.
func (s *script) says(from, to, channel, message, of string, takes time.Duration) {
	log := func(at, peer string) *slog.Logger {
		if peer == "coordinator" {
			peer = hub
		}
		logger := s.trace.logger(at).With("actor", "client/$1", "peer", peer, "message", message)
		if channel != "" {
			logger = logger.With("channel", channel)
		}
		if of != "" {
			logger = logger.With("of", of)
		}
		return logger
	}
	log(from, to).Debug("control sent")
	if takes >= 0 {
		time.Sleep(takes)
		log(to, from).Debug("control received")
	}
}

// roaming is a small story of two clients.
func (s *script) roaming() {
	const oneWay = 20 * time.Millisecond
	coordinator, alice, bob := s.trace.logger("coordinator"), s.trace.logger("alice"), s.trace.logger("bob")
	coordinator.Info("coordinator started", "addr", hub, "fingerprint", "sha256:00")
	for _, name := range []string{"alice", "bob"} {
		s.trace.logger(name).Debug("behavior changed", "actor", "client/$1", "from", "", "behavior", "connecting")
		time.Sleep(41 * time.Millisecond)
		s.says(name, "coordinator", "", "Attach", name, oneWay)
		s.says("coordinator", name, "", "Attached", "", oneWay)
		s.trace.logger(name).Info("attached", "addr", hub, "observed", "198.51.100.7:4000")
	}
	s.says("alice", "coordinator", "", "OpenChannel", "bob", oneWay)
	s.says("coordinator", "bob", "", "ChannelOffered", "alice", oneWay+123456)
	s.says("bob", "coordinator", "", "AnswerOffer", "", oneWay)
	s.says("coordinator", "alice", "", "ChannelIntroduced", "bob", oneWay)
	toBob := alice.With("actor", "client/$2/$3", "channel", "0badcafe", "peer", "bob")
	toBob.Debug("path changed", "path", "relayed", "addr", hub)
	bob.Debug("path changed", "actor", "client/$2/$3", "channel", "0badcafe", "peer", "alice", "path", "relayed", "addr", hub)
	s.says("alice", "bob", "0badcafe", "OfferCandidates", "1", 2*oneWay)
	toBob.Debug("path changed", "path", "direct", "addr", "198.51.100.9:4000")
	s.trace.note("alice", "", "moves to another network")
	s.trace.note("", "", "the internet\nis slow")
	s.trace.note("bob", "alice", "stream opened")
	s.says("alice", "coordinator", "", "ReleaseChannel", "", -1)
	time.Sleep(30 * time.Second)
	alice.Warn("coordinator lost", "addr", hub, "err", errors.New(`timeout: "no answer"`))
	alice.Error("actor failed", "actor", "client/$2", "stack", "goroutine 1\nmain.go:1")
	s.says("bob", "coordinator", "", "ReleaseChannel", "", oneWay)
	s.says("alice", "bob", "0badcafe", "CloseChannel", "closed", -1)
}

// written writes the trace and returns the folder.
func (s *script) written() string {
	s.Helper()
	folder := filepath.Join(s.TempDir(), "trace")
	if err := s.trace.write(folder); err != nil {
		s.Fatal(err)
	}
	return folder
}

func (s *script) read(path ...string) string {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		s.Fatal(err)
	}
	return string(text)
}

func TestTrace(t *testing.T) {
	inScript(t, traceLimits{}, func(s *script) {
		s.roaming()
		folder := s.written()
		for _, name := range []string{"chart.txt", "events.txt", "paths.txt"} {
			golden(t, "trace-"+name, s.read(folder, name))
		}
		readme := s.read(folder, "README.txt")
		for _, want := range []string{"seed     7\n", "repeat   " + s.trace.repeat + "\n", "30.282123  WARN   alice", "moves to another network"} {
			if !strings.Contains(readme, want) {
				t.Errorf("README.txt lacks %q:\n%s", want, readme)
			}
		}
	})
}

// TestTraceHearsNetwork holds that packets come from the network, each to the file
// of the line on which it was seen, with the time of the network.
func TestTraceHearsNetwork(t *testing.T) {
	inScript(t, traceLimits{}, func(s *script) {
		line := Line{Latency: 10 * time.Millisecond}
		var ends []netip.AddrPort
		for _, name := range []string{"alice", "bob"} {
			host, err := s.network.Host(name, s.network.Internet(), line)
			if err != nil {
				t.Fatal(err)
			}
			link, err := host.Listen(netip.AddrPortFrom(host.Addr(), 4000))
			if err != nil {
				t.Fatal(err)
			}
			defer link.Close()
			ends = append(ends, link.LocalAddr())
		}
		time.Sleep(time.Second)
		s.network.Inject(ends[0], ends[1], []byte("hello"))
		time.Sleep(time.Second)
		folder := s.written()
		file := readCapture(t, s.read(folder, "packets", "bob-eth0.pcapng"))
		if len(file.packets) == 0 {
			t.Fatal("no packet in the file of bob's line")
		}
		got := file.packets[len(file.packets)-1]
		if got.from != ends[0] || got.to != ends[1] || string(got.payload) != "hello" || got.at.Round(time.Millisecond) != time.Second+10*time.Millisecond {
			t.Errorf("got %+v", got)
		}
		s.trace.close()
		s.network.Inject(ends[0], ends[1], []byte("unseen"))
		time.Sleep(time.Second)
		if again := readCapture(t, s.read(s.written(), "packets", "bob-eth0.pcapng")); len(again.packets) != len(file.packets) {
			t.Errorf("after close %d packets, want %d", len(again.packets), len(file.packets))
		}
	})
}

func TestTraceRecordsLimit(t *testing.T) {
	inScript(t, traceLimits{Records: 3}, func(s *script) {
		for i := range 5 {
			s.trace.logger("a").Info("event", "number", i)
		}
		want := "2 older records were dropped\n"
		for i := 2; i < 5; i++ {
			want += fmt.Sprintf("    0.000000  INFO   a               event number=%d\n", i)
		}
		if got := s.read(s.written(), "events.txt"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestTraceFields(t *testing.T) {
	inScript(t, traceLimits{}, func(s *script) {
		base := s.trace.logger("a").With("one", 1)
		base.WithGroup("g").With("two", 2).Info("text", "three", slog.GroupValue(slog.Int("four", 4)), "empty", "", "", "no key")
		base.Info("other")
		base.Info("long", "value", strings.Repeat("ü", traceText))
		got := s.trace.records.all()
		if want := `text one=1 g.two=2 g.three.four=4 g.empty=""`; got[0].describe() != want {
			t.Errorf("got %q, want %q", got[0].describe(), want)
		}
		if want := "other one=1"; got[1].describe() != want {
			t.Errorf("got %q, want %q", got[1].describe(), want)
		}
		if size := len(got[2].field("value")); size > traceText+len("…") {
			t.Errorf("a value of %d bytes was kept", size)
		}
	})
}

// TestTraceAtOnce writes a trace while all of it grows.
func TestTraceAtOnce(t *testing.T) {
	network := NewNetwork(1)
	defer network.Close()
	traced := newTrace(network, traceLimits{Packets: packetChunk, Records: 100})
	defer traced.close()
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i := range 3 {
		writers.Go(func() {
			name := fmt.Sprint("host", i)
			logger, keys := traced.logger(name), traced.keyLog(name)
			sight := Sight{Line: name, From: addrPort("10.0.0.1:1"), To: addrPort("10.0.0.2:2"), Payload: make([]byte, 150)}
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				logger.Debug("control sent", "peer", "host0", "message", "Attach")
				fmt.Fprintf(keys, "CLIENT_RANDOM %d %d\n", i, n)
				sight.Payload[0]++
				traced.packets.see(sight)
				traced.note(name, "", "note")
			}
		})
	}
	for range 5 {
		if err := traced.write(t.TempDir()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	writers.Wait()
}

func TestTraceOfNothing(t *testing.T) {
	var none *trace
	none.note("a", "", "text")
	none.close()
	if err := none.write("/proc/none"); err != nil || none.logger("a") != nil || none.keyLog("a") != nil {
		t.Error("a nil trace does something")
	}
}

func TestTraceWriteError(t *testing.T) {
	inScript(t, traceLimits{}, func(s *script) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.trace.write(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("got %v, want an error that names %s", err, file)
		}
	})
}

func TestSafeNames(t *testing.T) {
	long := strings.Repeat("x", 300)
	lines := []string{"alice/eth0", "alice:eth0", "ALICE/eth0", "../../etc/passwd", ".", "", "all", long, "bär/eth0"}
	got := safeNames(lines)
	want := []string{
		"alice-eth0.pcapng", "alice-eth0-2.pcapng", "ALICE-eth0-3.pcapng", "-.-..-etc-passwd.pcapng", "-.pcapng", "line.pcapng",
		"all-2.pcapng", long[:60] + ".pcapng", "b-r-eth0.pcapng",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func addrPort(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

func BenchmarkTraceLog(b *testing.B) {
	network := NewNetwork(1)
	defer network.Close()
	traced := newTrace(network, traceLimits{})
	defer traced.close()
	logger := traced.logger("alice")
	b.ReportAllocs()
	for b.Loop() {
		logger.Debug("control sent", "actor", "client/$1/$2", "peer", "bob", "message", "OpenChannel", "of", "carol")
	}
}
