package sim

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Defaults of [traceLimits].
const (
	traceRecords = 32 << 10
	traceKeys    = 16 << 10
	traceText    = 4 << 10 // bytes of one value
)

// traceLimits says how much a trace remembers: the last of everything.
type traceLimits struct {
	// Packets is in bytes, headers of the trace's own counted. If zero, 64 MiB.
	Packets int
	// Snap is how many bytes of a packet's payload are kept, of those that are not
	// handshakes. If zero, 200; negative keeps all, for Wireshark to decrypt.
	Snap int
	// Records is how many logs and notes. If zero, 32,768.
	Records int
}

// trace remembers what happened in a network, for people to read if it ends badly:
//
//	t := newTrace(network, traceLimits{})
//	defer t.close()
//	cl, err := client.Connect(ctx, &client.Config{…, Logger: t.logger("alice"), KeyLog: t.keyLog("alice")})
//	…
//	t.note("alice", "", "moves to another network")
//	…
//	if failed {
//		t.repeat = "CONEC_SIM_SEED=7 go test ./sim -run '^TestRoaming$'"
//		err = t.write("/tmp/trace")
//	}
//
// It hears of packets from the network and of everything else from the programs'
// logs. All methods may be called from any goroutine; note and the loggers also
// by a rule of the network. Of a nil trace, they do nothing.
type trace struct {
	repeat string // the command that repeats the run; set before write

	network *Network
	unwatch func()
	packets *packetLog

	mu      sync.Mutex
	records ring[record]
	keys    ring[string]
	aliases map[string]string // who listens at an address
}

// record is a log record or a note.
type record struct {
	at     time.Duration
	host   string // whose it is; empty if nobody's
	to     string // of a note about two
	level  slog.Level
	text   string
	fields []field
}

type field struct{ key, value string }

// levelNote marks notes: what a scenario did, between what programs log.
const levelNote = slog.LevelInfo + 1

// newTrace begins to trace a network.
func newTrace(n *Network, limits traceLimits) *trace {
	if limits.Records == 0 {
		limits.Records = traceRecords
	}
	t := &trace{
		network: n, packets: newPacketLog(limits.Packets, limits.Snap), aliases: map[string]string{},
		records: ring[record]{limit: limits.Records}, keys: ring[string]{limit: traceKeys},
	}
	t.unwatch = n.Watch(t.packets.see)
	return t
}

// close ends the tracing of packets. What was traced can still be written.
func (t *trace) close() {
	if t != nil {
		t.unwatch()
	}
}

// logger returns what the program with this name logs to. The name must be the one
// by which others know the program: for a client, that of its configuration.
func (t *trace) logger(name string) *slog.Logger {
	if t == nil {
		return nil
	}
	return slog.New(&recorder{trace: t, host: name})
}

// keyLog returns where the program with this name writes its TLS secrets.
func (t *trace) keyLog(string) io.Writer {
	if t == nil {
		return nil
	}
	return keyWriter{t}
}

// note remembers what a scenario did or saw: of nobody, of one, or between two.
func (t *trace) note(from, to, text string) {
	if t != nil {
		t.add(record{host: from, to: to, level: levelNote, text: cut(text, traceText)})
	}
}

func (t *trace) add(r record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.at = t.network.Elapsed()
	if addr := r.field("addr"); r.text == logStarted && addr != "" {
		t.aliases[addr] = r.host
	}
	t.records.add(r)
}

// field returns a value, empty if there is none of that key.
func (r *record) field(key string) string {
	for _, f := range r.fields {
		if f.key == key {
			return f.value
		}
	}
	return ""
}

// describe returns the text and the fields in one line.
func (r *record) describe(without ...string) string {
	var line strings.Builder
	line.WriteString(strings.ReplaceAll(r.text, "\n", " "))
next:
	for _, f := range r.fields {
		for _, key := range without {
			if f.key == key {
				continue next
			}
		}
		value := f.value
		if value == "" || strings.ContainsAny(value, " \"=\n\t") {
			value = fmt.Sprintf("%q", value)
		}
		line.WriteString(" " + f.key + "=" + value)
	}
	return line.String()
}

// recorder is the [slog.Handler] of one program.
type recorder struct {
	trace  *trace
	host   string
	prefix string // of keys, of the groups that are open
	fields []field
}

// Enabled takes all that is of use to a reader of the trace.
func (r *recorder) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelDebug }

// Handle remembers a record as text: what it refers to may change or be reused.
func (r *recorder) Handle(_ context.Context, from slog.Record) error {
	fields := make([]field, len(r.fields), len(r.fields)+from.NumAttrs())
	copy(fields, r.fields)
	from.Attrs(func(attr slog.Attr) bool {
		fields = appendField(fields, r.prefix, attr)
		return true
	})
	r.trace.add(record{host: r.host, level: from.Level, text: from.Message, fields: fields})
	return nil
}

// WithAttrs implements [slog.Handler].
func (r *recorder) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *r
	with.fields = append([]field(nil), r.fields...)
	for _, attr := range attrs {
		with.fields = appendField(with.fields, r.prefix, attr)
	}
	return &with
}

// WithGroup implements [slog.Handler].
func (r *recorder) WithGroup(name string) slog.Handler {
	with := *r
	if name != "" {
		with.prefix += name + "."
	}
	return &with
}

func appendField(fields []field, prefix string, attr slog.Attr) []field {
	value := attr.Value.Resolve()
	if value.Kind() != slog.KindGroup {
		if attr.Key == "" {
			return fields
		}
		return append(fields, field{prefix + attr.Key, cut(value.String(), traceText)})
	}
	if attr.Key != "" {
		prefix += attr.Key + "."
	}
	for _, inner := range value.Group() {
		fields = appendField(fields, prefix, inner)
	}
	return fields
}

// keyWriter remembers TLS secrets. crypto/tls writes one line at a time.
type keyWriter struct{ trace *trace }

func (w keyWriter) Write(line []byte) (int, error) {
	w.trace.mu.Lock()
	defer w.trace.mu.Unlock()
	w.trace.keys.add(string(line))
	return len(line), nil
}

// ring holds the last limit values.
type ring[T any] struct {
	limit   int
	values  []T
	next    int // where the next value goes, once it is full
	dropped int
}

func (r *ring[T]) add(value T) {
	if len(r.values) < r.limit {
		r.values = append(r.values, value)
		return
	}
	r.values[r.next] = value
	r.next = (r.next + 1) % r.limit
	r.dropped++
}

// all returns a copy, oldest first.
func (r *ring[T]) all() []T {
	return append(append(make([]T, 0, len(r.values)), r.values[r.next:]...), r.values[:r.next]...)
}

// cut shortens a text to at most so many bytes, and shows that it did.
func cut(text string, size int) string {
	if len(text) <= size {
		return text
	}
	return strings.ToValidUTF8(text[:size], "") + "…"
}
