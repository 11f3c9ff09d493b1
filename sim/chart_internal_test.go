package sim

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// sent and received are the two records of a control message.
func sent(at time.Duration, host, actor, peer, message string) record {
	return record{at: at, host: host, level: slog.LevelDebug, text: logSent, fields: []field{{"actor", actor}, {"peer", peer}, {"message", message}}}
}

func received(at time.Duration, host, peer, message string) record {
	return record{at: at, host: host, level: slog.LevelDebug, text: logReceived, fields: []field{{"peer", peer}, {"message", message}}}
}

func chartOf(t *testing.T, aliases map[string]string, records ...record) []string {
	t.Helper()
	var text strings.Builder
	if err := writeChart(&text, records, aliases); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")[3:] // without legend and names
}

// TestChartMany holds that a chart of very many stays as wide as a chart may be,
// and says in words what has no column.
func TestChartMany(t *testing.T) {
	var records []record
	for i := range 200 {
		name := fmt.Sprintf("client-with-a-long-name-%03d", i)
		at := time.Duration(i) * time.Second
		records = append(records, sent(at, name, "1", "coordinator", "Attach"), received(at+time.Millisecond, "coordinator", name, "Attach"))
		if i < columnMost-2 {
			for range 3 {
				records = append(records, record{at: at, host: name, text: "restless"})
			}
		}
	}
	records = append(records, sent(time.Hour, "client-with-a-long-name-150", "1", "client-with-a-long-name-151", "OfferCandidates"))
	lines := chartOf(t, nil, records...)
	for _, line := range lines {
		if size := utf8.RuneCountInString(line); size > chartMargin+columnMost*columnNarrow+60 {
			t.Errorf("a line of %d characters: %s", size, line)
		}
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{"client…me-003", "(others)", "  client-with-a-long-name-150 → client-with-a-long-name-151: OfferCandidates ●  did not arrive"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the chart, which ends with\n%s", want, strings.Join(lines[len(lines)-3:], "\n"))
		}
	}
	if heads := strings.Count(text, "seconds"); heads < 3 {
		t.Errorf("the names are repeated %d times in %d lines", heads, len(lines))
	}
}

// TestChartLives holds that a message that came is not taken for the same one that
// was lost in an earlier life of its sender.
func TestChartLives(t *testing.T) {
	lines := chartOf(t, map[string]string{hub: "coordinator"},
		sent(0, "alice", "1", hub, "Attach"),
		sent(time.Second, "alice", "2", hub, "Attach"),
		sent(time.Second, "alice", "2", hub, "Attach"),
		received(2*time.Second, "coordinator", "alice", "Attach"),
	)
	for i, want := range []string{"did not arrive", "1s", "did not arrive"} {
		if !strings.HasSuffix(lines[i], "  "+want) {
			t.Errorf("line %d: %q, want %q", i, lines[i], want)
		}
	}
}

// TestChartChannels holds that messages of two channels between the same clients
// are not taken for each other.
func TestChartChannels(t *testing.T) {
	of := func(r record, channel string) record {
		r.fields = append(r.fields, field{"channel", channel})
		return r
	}
	lines := chartOf(t, nil,
		of(sent(0, "alice", "1", "bob", "CloseChannel"), "a"),
		of(sent(time.Second, "alice", "2", "bob", "CloseChannel"), "b"),
		of(received(3*time.Second, "bob", "alice", "CloseChannel"), "b"),
		of(received(4*time.Second, "bob", "alice", "CloseChannel"), "a"),
	)
	for i, want := range []string{"4s", "2s"} {
		if !strings.HasSuffix(lines[i], "  "+want) {
			t.Errorf("line %d: %q, want %q", i, lines[i], want)
		}
	}
}

// TestChartWithoutStart holds that a reader is told of messages of which the trace
// has the second half only.
func TestChartWithoutStart(t *testing.T) {
	lines := chartOf(t, nil, received(0, "bob", "alice", "CloseChannel"))
	if want := "    0.000000  ├──CloseChannel─▶│  sending it was not traced"; lines[0] != want {
		t.Errorf("got  %q\nwant %q", lines[0], want)
	}
}

func TestChartPeers(t *testing.T) {
	for name, test := range map[string]struct {
		aliases    map[string]string
		peer, want string
	}{
		"client":               {map[string]string{hub: "coordinator"}, "bob", "bob"},
		"coordinator":          {map[string]string{hub: "coordinator"}, hub, "coordinator"},
		"its other address":    {map[string]string{"0.0.0.0:1719": "coordinator"}, hub, "coordinator"},
		"its name":             {map[string]string{hub: "coordinator"}, "coord.example:1719", "coordinator"},
		"none known":           {nil, hub, hub},
		"one of two":           {map[string]string{hub: "one", "203.0.113.2:1719": "two"}, hub, "one"},
		"neither of these two": {map[string]string{hub: "one", "203.0.113.2:1719": "two"}, "203.0.113.3:1719", "203.0.113.3:1719"},
	} {
		t.Run(name, func(t *testing.T) {
			c := chart{aliases: test.aliases}
			if got := c.who(test.peer); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
