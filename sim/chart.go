package sim

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// What programs log that a trace shows in a way of its own.
const (
	logSent     = "control sent"
	logReceived = "control received"
	logPath     = "path changed"
	logStarted  = "coordinator started"
)

// Sizes of a chart, in characters.
const (
	chartMargin    = 14  // of the times at the left
	chartWidth     = 150 // of all columns, if they need not be wider
	columnNarrow   = 14
	columnWide     = 30
	columnMost     = 12 // columns; who took part least share the last one
	chartHeadEvery = 50 // rows
	chartEvent     = 120
	chartOthers    = "(others)"
)

// chartRow is one line of a chart.
type chartRow struct {
	at       time.Duration
	from, to string // to is empty for what happened at one place, both if at none
	text     string
	remark   string // at the right
	note     bool
	arrived  bool
	life     string // of the sender's actor; who sends anew has a new one
}

// writeChart writes a sequence chart of control messages, and of what the programs
// logged and the scenario noted in between: time goes down, each program has a
// column. aliases says who listens at an address.
func writeChart(out io.Writer, records []record, aliases map[string]string) error {
	c := chart{aliases: aliases, flying: map[flight][]*chartRow{}}
	for i := range records {
		c.add(&records[i])
	}
	for _, rows := range c.flying {
		for _, row := range rows {
			row.remark = "did not arrive"
		}
	}
	c.fold()
	c.layOut()
	w := bufio.NewWriter(out)
	fmt.Fprintln(w, "├─▶ control message, and at the right how long it took   ─× did not arrive   ● log of a program   ═▶ ◆ note")
	for i, row := range c.rows {
		if i%chartHeadEvery == 0 {
			c.head(w)
		}
		c.draw(w, row)
	}
	return w.Flush()
}

// chart is a chart in the making.
type chart struct {
	aliases map[string]string
	rows    []*chartRow
	flying  map[flight][]*chartRow // sent and not yet received, oldest first
	columns []string
	spacing int
}

// flight tells apart what cannot be the same message.
type flight struct{ from, to, channel, text string }

func (c *chart) add(r *record) {
	row := &chartRow{at: r.at, from: r.host, note: r.level == levelNote, arrived: true}
	switch {
	case r.text == logSent:
		row.to, row.text, row.life = c.who(r.field("peer")), message(r), r.field("actor")
		row.arrived = false
		key := flight{row.from, row.to, r.field("channel"), row.text}
		c.flying[key] = append(c.flying[key], row)
	case r.text == logReceived:
		row.from, row.to, row.text = c.who(r.field("peer")), r.host, message(r)
		if c.landed(flight{row.from, row.to, r.field("channel"), row.text}, r.at) {
			return
		}
		row.remark = "sending it was not traced"
	case row.note:
		row.to, row.text = r.to, r.text
	case r.level >= slog.LevelInfo || r.text == logPath:
		row.text = r.describe("actor", "channel", "stack", "fingerprint")
	default:
		return
	}
	c.rows = append(c.rows, row)
}

// landed notes that a message came. What an earlier life of the sender said and
// what did not come then will not come later.
func (c *chart) landed(key flight, at time.Duration) bool {
	waiting := c.flying[key]
	if len(waiting) == 0 {
		return false
	}
	last := waiting[len(waiting)-1].life
	i := slices.IndexFunc(waiting, func(row *chartRow) bool { return row.life == last })
	for _, row := range waiting[:i] {
		row.remark = "did not arrive"
	}
	waiting[i].arrived = true
	waiting[i].remark = (at - waiting[i].at).Round(10 * time.Microsecond).String()
	c.flying[key] = waiting[i+1:]
	return true
}

// message is what a chart calls a control message.
func message(r *record) string {
	return strings.TrimSpace(r.field("message") + " " + r.field("of"))
}

// who returns the column of a peer: clients call the coordinator by its address.
func (c *chart) who(peer string) string {
	if name := c.aliases[peer]; name != "" {
		return name
	}
	if _, _, err := net.SplitHostPort(peer); err == nil && len(c.aliases) > 0 {
		first := ""
		for _, name := range c.aliases {
			if first != "" && name != first {
				return peer // which of them cannot be told
			}
			first = name
		}
		return first
	}
	return peer
}

// fold finds the columns: who took part, in order of appearance. If these are too
// many, the last column is for all who took part least.
func (c *chart) fold() {
	counts := map[string]int{}
	for _, row := range c.rows {
		for _, name := range []string{row.from, row.to} {
			if name == "" {
				continue
			}
			if counts[name] == 0 {
				c.columns = append(c.columns, name)
			}
			counts[name]++
		}
	}
	if len(c.columns) <= columnMost {
		return
	}
	busiest := slices.Clone(c.columns)
	slices.SortStableFunc(busiest, func(a, b string) int { return counts[b] - counts[a] })
	busiest = busiest[:columnMost-1]
	folded := func(name string) bool { return name != "" && !slices.Contains(busiest, name) }
	for _, row := range c.rows {
		switch {
		case folded(row.from) && folded(row.to):
			row.text = row.from + " → " + row.to + ": " + row.text
			row.from, row.to = chartOthers, ""
		case folded(row.from):
			row.text, row.from = row.from+": "+row.text, chartOthers
		case folded(row.to):
			row.text, row.to = row.to+": "+row.text, chartOthers
		}
	}
	c.columns = append(slices.DeleteFunc(c.columns, folded), chartOthers)
}

// layOut makes the columns as wide as the names on the arrows want, within limits.
func (c *chart) layOut() {
	c.spacing = columnNarrow
	for _, row := range c.rows {
		if from, to := c.column(row.from), c.column(row.to); from >= 0 && to >= 0 && from != to {
			distance := max(from-to, to-from)
			c.spacing = max(c.spacing, (utf8.RuneCountInString(row.text)+4)/distance+1)
		}
	}
	for _, name := range c.columns {
		c.spacing = max(c.spacing, min(utf8.RuneCountInString(name)+2, columnWide))
	}
	c.spacing = min(c.spacing, columnWide, max(columnNarrow, chartWidth/max(len(c.columns), 1)))
}

func (c *chart) column(name string) int { return slices.Index(c.columns, name) }

// at returns where a column's line is.
func (c *chart) at(column int) int { return chartMargin + column*c.spacing }

func (c *chart) head(w io.Writer) {
	line := newChartLine("     seconds")
	for i, name := range c.columns {
		line.put(c.at(i), shortenName(name, c.spacing-1))
	}
	fmt.Fprintf(w, "\n%s\n", line)
}

// draw writes one row.
func (c *chart) draw(w io.Writer, row *chartRow) {
	line := newChartLine(fmt.Sprintf("%12.6f", row.at.Seconds()))
	for i := range c.columns {
		line.put(c.at(i), "│")
	}
	from, to := c.column(row.from), c.column(row.to)
	switch {
	case from >= 0 && to >= 0 && from != to:
		line.arrow(c.at(from), c.at(to), row)
	default:
		c.mark(line, max(from, 0), row)
	}
	if row.remark != "" {
		line.put(max(c.at(len(c.columns)-1)+3, len(line.cells)+1), row.remark)
	}
	fmt.Fprintln(w, line)
}

// mark draws what happened at one column: to the right of its line or, where there
// is more room, to the left.
func (c *chart) mark(line *chartLine, column int, row *chartRow) {
	mark, text, at := "●", row.text, c.at(column)
	if row.note {
		mark = "◆"
	}
	if row.to != "" && row.to != row.from {
		text = "→ " + row.to + ": " + text
	}
	text = shorten(text, chartEvent)
	size := utf8.RuneCountInString(text)
	if before := at - chartMargin; at+size > c.at(len(c.columns)) && before > size && before > chartWidth/2 {
		line.put(at-size-2, " "+text)
		line.put(at-1, " "+mark)
		return
	}
	line.put(at, mark+" "+text+" ")
}

// chartLine is a row of characters that grows as they are put.
type chartLine struct{ cells []rune }

func newChartLine(text string) *chartLine { return &chartLine{[]rune(text)} }

func (l *chartLine) put(at int, text string) {
	for _, r := range text {
		for len(l.cells) <= at {
			l.cells = append(l.cells, ' ')
		}
		if r < ' ' { // would break the line
			r = ' '
		}
		l.cells[at] = r
		at++
	}
}

// arrow draws a row from one line to another, its text on it.
func (l *chartLine) arrow(from, to int, row *chartRow) {
	shaft, head, tail := "─", "▶", "├"
	if row.note {
		shaft, tail = "═", "╞"
	}
	left, right := from, to
	if from > to {
		left, right, head, tail = to, from, "◀", "┤"
		if row.note {
			tail = "╡"
		}
	}
	if !row.arrived {
		head = "×"
	}
	l.put(left+1, strings.Repeat(shaft, right-left-1))
	l.put(from, tail)
	if from < to {
		l.put(to-1, head)
	} else {
		l.put(to+1, head)
	}
	l.put(left+3, shorten(row.text, right-left-5))
}

func (l *chartLine) String() string { return strings.TrimRight(string(l.cells), " ") }

// shorten cuts a text to so many characters.
func shorten(text string, size int) string {
	if utf8.RuneCountInString(text) <= size {
		return text
	}
	return string([]rune(text)[:max(size-1, 0)]) + "…"
}

// shortenName cuts in the middle: many names differ only at their end.
func shortenName(name string, size int) string {
	runes := []rune(name)
	if len(runes) <= size {
		return name
	}
	tail := size / 2
	return string(runes[:size-1-tail]) + "…" + string(runes[len(runes)-tail:])
}
