package sim

import (
	"bufio"
	"bytes"
	_ "embed" // for the Wireshark script
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Limits of a trace's README, in lines.
const (
	readmeEvents = 40
	readmeLines  = 200
)

// wireshark shows conec's frames in Wireshark.
//
//go:embed conec.lua
var wireshark string

// write writes the trace into a folder, which it makes. Its README.txt says what
// is there. Programs may go on meanwhile.
func (t *trace) write(folder string) error {
	if t == nil {
		return nil
	}
	packets := t.packets.view()
	t.mu.Lock()
	records, keys, dropped, aliases := t.records.all(), t.keys.all(), t.records.dropped, maps.Clone(t.aliases)
	t.mu.Unlock()
	if err := os.MkdirAll(filepath.Join(folder, "packets"), 0o755); err != nil {
		return fmt.Errorf("write trace: %w", err)
	}
	files, err := t.writePackets(filepath.Join(folder, "packets"), packets, keys)
	create := func(name string, write func(w io.Writer) error) {
		if fault := writeFile(filepath.Join(folder, name), write); fault != nil {
			err = errors.Join(err, fault)
		}
	}
	create("chart.txt", func(w io.Writer) error { return writeChart(w, records, aliases) })
	create("events.txt", func(w io.Writer) error { return writeEvents(w, records, dropped) })
	create("paths.txt", func(w io.Writer) error { return writePaths(w, records) })
	create("conec.lua", func(w io.Writer) error {
		_, err := io.WriteString(w, wireshark)
		return err
	})
	create("README.txt", func(w io.Writer) error {
		t.introduce(w, records, dropped)
		fmt.Fprintf(w, "\nPackets: %d were seen, the oldest %d of them are no longer there.\n", packets.seen, packets.dropped)
		for _, file := range files[:min(len(files), readmeLines)] {
			fmt.Fprintf(w, "  packets/%-40s %7d seen on %s, of which %d went no further\n", file.name, file.seen, file.line, file.ended)
		}
		if more := len(files) - readmeLines; more > 0 {
			fmt.Fprintf(w, "  and %d more files\n", more)
		}
		return nil
	})
	return err
}

func writeFile(path string, write func(w io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write trace: %w", err)
	}
	w := bufio.NewWriter(file)
	if err = errors.Join(write(w), w.Flush(), file.Close()); err != nil {
		return fmt.Errorf("write trace: %w", err)
	}
	return nil
}

// introduce writes what a reader should know first.
func (t *trace) introduce(w io.Writer, records []record, dropped int) {
	fmt.Fprintf(w, "Trace of a simulated network\n\n")
	fmt.Fprintf(w, "seed     %d\n", t.network.Seed())
	if t.repeat != "" {
		fmt.Fprintf(w, "repeat   %s\n", t.repeat)
	}
	fmt.Fprintf(w, "length   %v of virtual time\n", t.network.Elapsed())
	fmt.Fprintf(w, "packets  %s\n", t.network.Stats())
	fmt.Fprintf(w, `
  chart.txt            control messages between programs, what these logged (info and up) and what the test noted
  events.txt           all that was logged and noted: %d records; %d older ones were dropped
  paths.txt            which path each channel took, and when
  packets/all.pcapng   the packets of all lines, for Wireshark or tshark
  packets/*.pcapng     the same for each line: a host's interface, or the outside of a gateway
  conec.lua            lets Wireshark understand them

Times are seconds of virtual time since the network began. Read the packets with

  wireshark -X lua_script:conec.lua packets/LINE.pcapng     (or tshark -X lua_script:conec.lua -r …)

The script shows conec's frames and the QUIC packets in them. The TLS secrets in the files decrypt these, most of all in
the file of one line, where no packet is there twice. View, Time Display Format, Seconds Since 1970-01-01 shows the same
times as the texts. A packet that went no further where it was seen has a comment that says why: filter "frame.comment".
Unless the trace keeps whole packets, it has only the first bytes of those that are large and no handshake: Wireshark
cannot decrypt these.
`, len(records), dropped)
	fmt.Fprintf(w, "\nWhat was noted, and logged as a warning or error:\n")
	count := 0
	for i := range records {
		if r := &records[i]; r.level == levelNote || r.level >= slog.LevelWarn {
			if count++; count <= readmeEvents {
				fmt.Fprintf(w, "  %s\n", shorten(r.line("stack"), 200))
			}
		}
	}
	if count > readmeEvents {
		fmt.Fprintf(w, "  and %d more, in events.txt\n", count-readmeEvents)
	}
	if count == 0 {
		fmt.Fprintf(w, "  nothing\n")
	}
}

// line returns the record in one line.
func (r *record) line(without ...string) string {
	level, host := r.level.String(), r.host
	if r.level == levelNote {
		level = "NOTE"
	}
	if host == "" {
		host = "-"
	}
	if r.to != "" {
		host += " → " + r.to
	}
	return fmt.Sprintf("%12.6f  %-5s  %-14s  %s", r.at.Seconds(), level, host, r.describe(without...))
}

func writeEvents(w io.Writer, records []record, dropped int) error {
	if dropped > 0 {
		fmt.Fprintf(w, "%d older records were dropped\n", dropped)
	}
	for i := range records {
		r := &records[i]
		fmt.Fprintln(w, r.line("stack"))
		if stack := r.field("stack"); stack != "" {
			fmt.Fprintf(w, "\t%s\n", strings.ReplaceAll(strings.TrimSpace(stack), "\n", "\n\t"))
		}
	}
	return nil
}

// writePaths writes the path changes, grouped by channel and side.
func writePaths(w io.Writer, records []record) error {
	type side struct{ host, peer, channel string }
	var order []side
	changes := map[side][]*record{}
	for i := range records {
		if r := &records[i]; r.text == logPath {
			key := side{r.host, r.field("peer"), r.field("channel")}
			if changes[key] == nil {
				order = append(order, key)
			}
			changes[key] = append(changes[key], r)
		}
	}
	if len(order) == 0 {
		fmt.Fprintln(w, "no channel took a path")
	}
	for _, key := range order {
		fmt.Fprintf(w, "%s → %s, channel %s\n", key.host, key.peer, key.channel)
		for _, r := range changes[key] {
			fmt.Fprintf(w, "%12.6f  %-8s %s\n", r.at.Seconds(), r.field("path"), r.field("addr"))
		}
		fmt.Fprintln(w)
	}
	return nil
}

// packetFile is what a README says of a capture.
type packetFile struct {
	name, line  string
	seen, ended int
}

// writePackets writes a capture of each line, and one of all.
func (t *trace) writePackets(folder string, packets packetView, keys []string) ([]packetFile, error) {
	secrets := []byte(strings.Join(unique(keys), ""))
	comment := fmt.Sprintf("seed %d", t.network.Seed())
	byLine := make([][]capture, len(packets.names))
	err := writeFile(filepath.Join(folder, "all.pcapng"), func(w io.Writer) error {
		p := newPcapWriter(w, comment)
		p.secrets(secrets)
		for _, name := range packets.names {
			p.line(name)
		}
		packets.each(func(c *capture) {
			byLine[c.line] = append(byLine[c.line], *c)
			p.packet(c.line, c, c.comment())
		})
		return p.flush()
	})
	files := make([]packetFile, len(packets.names))
	names := safeNames(packets.names)
	for i, line := range packets.names {
		files[i] = packetFile{name: names[i], line: line, seen: len(byLine[i])}
		fault := writeFile(filepath.Join(folder, names[i]), func(w io.Writer) error {
			p := newPcapWriter(w, comment)
			p.secrets(secrets)
			p.line(line)
			for j := range byLine[i] {
				c := &byLine[i][j]
				if c.fate != Passed {
					files[i].ended++
				}
				p.packet(0, c, c.comment())
			}
			return p.flush()
		})
		err = errors.Join(err, fault)
	}
	return files, err
}

// comment says why a packet went no further.
func (c *capture) comment() string {
	if c.fate == Passed {
		return ""
	}
	return "went no further: " + c.fate.String()
}

// unique returns the lines that are new, in order: both ends of a connection have
// the same secrets.
func unique(lines []string) []string {
	known := make(map[string]bool, len(lines))
	return slices.DeleteFunc(lines, func(line string) bool {
		if known[line] {
			return true
		}
		known[line] = true
		return false
	})
}

// safeNames makes file names of lines: portable, and different on any file system.
func safeNames(lines []string) []string {
	taken := map[string]bool{"all.pcapng": true}
	names := make([]string, len(lines))
	for i, line := range lines {
		var name bytes.Buffer
		for _, r := range line {
			switch {
			case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '.' && name.Len() > 0:
				name.WriteRune(r)
			default:
				name.WriteByte('-')
			}
		}
		base := name.String()[:min(name.Len(), 60)]
		if base == "" {
			base = "line"
		}
		names[i] = base + ".pcapng"
		for n := 2; taken[strings.ToLower(names[i])]; n++ {
			names[i] = fmt.Sprintf("%s-%d.pcapng", base, n)
		}
		taken[strings.ToLower(names[i])] = true
	}
	return names
}
