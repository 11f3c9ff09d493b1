package netlab

import (
	"fmt"
	"slices"
	"strings"
)

// Cut drops on the internet what goes from one host to another. Behind a gateway,
// that takes all hosts there; what a third host forwards passes, and so does what
// does not come to the internet. It lasts until heal is called, for the public
// addresses that the hosts have now.
func (l *Lab) Cut(from, to *Host) (heal func()) {
	l.tb.Helper()
	c := cut{from: from.public(), to: to.public()}
	l.cuts = append(l.cuts, c)
	l.must("cut", l.wan.inside.nft(separation(l.cuts)))
	return func() {
		l.tb.Helper()
		if i := slices.Index(l.cuts, c); i >= 0 {
			l.cuts = slices.Delete(l.cuts, i, i+1)
			l.must("heal", l.wan.inside.nft(separation(l.cuts)))
		}
	}
}

// separation writes the cuts for nft.
func separation(cuts []cut) string {
	var text strings.Builder
	text.WriteString("flush ruleset\ntable bridge cut {\n\tchain forward { type filter hook forward priority filter;\n")
	for _, c := range cuts {
		fmt.Fprintf(&text, "\t\tip saddr %v ip daddr %v drop;\n", c.from, c.to)
	}
	text.WriteString("\t}\n}\n")
	return text.String()
}
