package topology

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Header is the first line of a table of [Stats].
const Header = "    time   attached   direct  relayed  msgs/s      throughput  missing  packets/s   lost"

// String writes the counters as a line below [Header].
func (s Stats) String() string {
	return fmt.Sprintf("%7.1fs  %9s %8d %8d %7.0f %15s %8d %10.0f %5.1f%%",
		s.At.Seconds(), fmt.Sprintf("%d/%d", s.Attached, s.Clients), s.Direct, s.Relayed,
		s.MessagesPerSecond, rateText(s.BytesPerSecond), s.Missing, s.PacketsPerSecond, 100*s.Loss)
}

// String writes an event as a line that goes with those of [Stats].
func (e Event) String() string {
	text := e.Text
	if e.Who != "" {
		text = e.Who + " " + text
	}
	return fmt.Sprintf("%9.3fs  %s: %s", e.At.Seconds(), e.What, text)
}

// Write writes a report for people.
func (r *Report) Write(w io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "seed %d, %s played\n", r.Seed, brief(r.Elapsed.Round(time.Millisecond)))
	fmt.Fprintf(&text, "clients: %d of %d attached; %d attachments, %d detachments, %d failed\n",
		r.Attached, r.Clients, r.Attachments, r.Detachments, r.FailedAttachments)
	fmt.Fprintf(&text, "packets: %d sent, %d delivered%s\n", r.Packets.Sent, r.Packets.Delivered, r.Packets.ended())
	if r.Faults > 0 {
		fmt.Fprintf(&text, "faults:  %d\n", r.Faults)
	}
	r.writeTraffic(&text)
	r.writeOutcomes(&text)
	_, err := io.WriteString(w, text.String())
	return err
}

func (p Packets) ended() string {
	var reasons []string
	for reason := range p.Ended {
		reasons = append(reasons, reason)
	}
	slices.Sort(reasons)
	for i, reason := range reasons {
		reasons[i] = fmt.Sprintf("%d %s", p.Ended[reason], reason)
	}
	if p.Duplicated > 0 {
		reasons = append(reasons, fmt.Sprintf("%d duplicated", p.Duplicated))
	}
	if p.Corrupted > 0 {
		reasons = append(reasons, fmt.Sprintf("%d corrupted", p.Corrupted))
	}
	if len(reasons) == 0 {
		return ""
	}
	return "; " + strings.Join(reasons, ", ")
}

func (r *Report) writeTraffic(text *strings.Builder) {
	if len(r.Traffic) == 0 {
		return
	}
	table := tabwriter.NewWriter(text, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(cells ...string) { fmt.Fprintln(table, strings.Join(cells, "\t")+"\t") }
	row("traffic", "pairs", "direct", "relayed", "moves", "sent", "received", "repeated", "reordered", "broken", "p50", "p99", "longest gap", "throughput")
	for _, t := range r.Traffic {
		p50, p99 := round(t.P50).String(), round(t.P99).String()
		if t.Kind == Transfer {
			p50, p99 = "-", "-"
		}
		row(t.Name, strconv.Itoa(t.Pairs), strconv.Itoa(t.Direct), strconv.Itoa(t.Relayed), strconv.Itoa(t.Moves),
			strconv.FormatInt(t.Sent, 10), strconv.FormatInt(t.Received, 10), strconv.FormatInt(t.Repeated, 10), strconv.FormatInt(t.Reordered, 10),
			strconv.Itoa(t.Broken), p50, p99, round(t.Gap).String(), rateText(t.BytesPerSecond))
	}
	_ = table.Flush() // a strings.Builder takes everything
}

func (r *Report) writeOutcomes(text *strings.Builder) {
	failed := 0
	for _, o := range r.Expect {
		verdict := "held:    "
		if !o.Held {
			verdict = "NOT HELD:"
			failed++
		}
		fmt.Fprintf(text, "%s %s (%s)\n", verdict, o.Text, o.Found)
	}
	switch {
	case len(r.Expect) == 0:
		text.WriteString("nothing was expected\n")
	case failed > 0:
		fmt.Fprintf(text, "%d of %d expectations did not hold\n", failed, len(r.Expect))
	default:
		fmt.Fprintf(text, "all %d expectations held\n", len(r.Expect))
	}
}

// round leaves three digits or so.
func round(d time.Duration) time.Duration {
	for unit := time.Second; unit > time.Nanosecond; unit /= 10 {
		if d >= 10*unit {
			return d.Round(unit / 10)
		}
	}
	return d
}

// amount writes bytes for people: 1.5 MB.
func amount(bytes int64) string {
	for _, unit := range []unit{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if float64(bytes) >= unit.times {
			return fmt.Sprintf("%.1f %s", float64(bytes)/unit.times, unit.name)
		}
	}
	return fmt.Sprintf("%d B", bytes)
}
