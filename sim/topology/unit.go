package topology

import (
	"strconv"
	"strings"
	"time"
)

// unit is what a number may be followed by.
type unit struct {
	name  string
	times float64
}

// The units, longest names first where one ends like another.
var (
	sizeUnits = []unit{
		{"KiB", 1 << 10},
		{"MiB", 1 << 20},
		{"GiB", 1 << 30},
		{"kB", 1e3},
		{"KB", 1e3},
		{"MB", 1e6},
		{"GB", 1e9},
		{"B", 1},
	}
	rateUnits = []unit{ // in bytes per second
		{"kbit/s", 1e3 / 8},
		{"Mbit/s", 1e6 / 8},
		{"Gbit/s", 1e9 / 8},
		{"bit/s", 1. / 8},
		{"KiB/s", 1 << 10},
		{"MiB/s", 1 << 20},
		{"GiB/s", 1 << 30},
		{"kB/s", 1e3},
		{"KB/s", 1e3},
		{"MB/s", 1e6},
		{"GB/s", 1e9},
		{"B/s", 1},
	}
	countUnits = []unit{ // per second
		{"/s", 1},
		{"/m", 1. / 60},
		{"/h", 1. / 3600},
	}
)

// measure reads a number with a unit.
func (v value) measure(units []unit, want string) (float64, bool) {
	text, ok := v.word(want)
	if !ok {
		return 0, false
	}
	for _, unit := range units {
		digits, found := strings.CutSuffix(text, unit.name)
		if !found {
			continue
		}
		if number, ok := decimal(strings.TrimSpace(digits)); ok {
			return number * unit.times, true
		}
	}
	if _, bare := decimal(text); bare {
		v.fail("%s has no unit; want %s", text, want)
	} else {
		v.fail("is %s; want %s", v.kind(), want)
	}
	return 0, false
}

// decimal reads a plain number: no sign, exponent or special value.
func decimal(text string) (float64, bool) {
	if text == "" || strings.Trim(text, "0123456789.") != "" || len(text) > 20 {
		return 0, false
	}
	number, err := strconv.ParseFloat(text, 64)
	return number, err == nil
}

// duration reads a time from least to most.
func (v value) duration(least, most time.Duration) time.Duration {
	text, ok := v.word("a duration such as 20ms or 1m30s")
	if !ok {
		return 0
	}
	d, ok := v.parseDuration(text)
	if ok && (d < least || d > most) {
		v.fail("is %s; want %s to %s", text, brief(least), brief(most))
		return least
	}
	return d
}

func (v value) parseDuration(text string) (time.Duration, bool) {
	d, err := time.ParseDuration(text)
	switch {
	case err == nil:
		return d, true
	case strings.Trim(text, "0123456789.") == "" && text != "":
		v.fail("%s has no unit; want a duration such as 20ms or 1m30s", v.kind())
	default:
		v.fail("is %s; want a duration such as 20ms or 1m30s", v.kind())
	}
	return 0, false
}

// span reads a duration, or two with ".." between.
func (v value) span(most time.Duration) Span {
	text, ok := v.word("a duration such as 5s, or 1s..10s for a random one")
	if !ok {
		return Span{}
	}
	first, second, found := strings.Cut(text, "..")
	least, ok := v.parseDuration(first)
	if !ok {
		return Span{}
	}
	span := Span{least, least}
	if found {
		if span.Most, ok = v.parseDuration(second); !ok {
			return Span{}
		}
	}
	if span.Least <= 0 || span.Most < span.Least || span.Most > most {
		v.fail("is %s; want more than 0, at most %s, the shorter one first", text, brief(most))
		return Span{}
	}
	return span
}

// size reads a number of bytes.
func (v value) size(least, most int64) int64 {
	bytes, ok := v.measure(sizeUnits, "a size such as 200B, 64KiB or 10MB")
	if !ok {
		return least
	}
	if bytes < float64(least) || bytes > float64(most) {
		v.fail("is %s; want %s to %s", v.at.Value, sizeText(least), sizeText(most))
		return least
	}
	return int64(bytes)
}

// maxRate of a line in bytes per second: 1 Tbit/s.
const maxRate = 125e9

// rate reads bytes per second.
func (v value) rate() int64 {
	const want = "a rate such as 512kbit/s, 20Mbit/s or 1MB/s"
	rate, ok := v.measure(rateUnits, want)
	if !ok {
		return 1
	}
	if rate < 1 || rate > maxRate {
		v.fail("is %s; want 8bit/s to 1000Gbit/s", v.at.Value)
		return 1
	}
	return int64(rate)
}

// frequency reads how often something happens, per second.
func (v value) frequency(most float64) float64 {
	often, ok := v.measure(countUnits, "a frequency such as 10/s, 6/m or 1/h")
	if !ok {
		return 1
	}
	if often <= 0 || often > most {
		v.fail("is %s; want more than 0, at most %g/s", v.at.Value, most)
		return 1
	}
	return often
}

// fraction reads a part of the whole.
func (v value) fraction() float64 {
	const want = "a fraction such as 5% or 0.05"
	text, ok := v.word(want)
	if !ok {
		return 0
	}
	percent, isPercent := strings.CutSuffix(text, "%")
	fraction, ok := decimal(strings.TrimSpace(percent))
	if isPercent {
		fraction /= 100
	}
	switch {
	case !ok:
		v.fail("is %s; want %s", v.kind(), want)
		return 0
	case fraction > 1:
		v.fail("is %s; want %s, at most 100%%", text, want)
		return 0
	}
	return fraction
}

// count reads a whole number.
func (v value) count(least, most int64) int64 {
	text, ok := v.word("a whole number")
	if !ok {
		return least
	}
	number, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		v.fail("is %s; want a whole number from %d to %d", v.kind(), least, most)
		return least
	case number < least || number > most:
		v.fail("is %d; want %d to %d", number, least, most)
		return least
	}
	return number
}

// brief writes a duration without its zero parts: 1m30s, 2m, 40ms.
func brief(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// sizeText writes bytes exactly: 200B, 64KiB, 10MB.
func sizeText(bytes int64) string {
	for _, unit := range []unit{{"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"kB", 1e3}} {
		if whole := int64(unit.times); bytes >= whole && bytes%whole == 0 {
			return strconv.FormatInt(bytes/whole, 10) + unit.name
		}
	}
	return strconv.FormatInt(bytes, 10) + "B"
}

// rateText writes bytes per second as bits: 20 Mbit/s.
func rateText(bytes float64) string {
	bits := bytes * 8
	for _, unit := range []unit{{"Gbit/s", 1e9}, {"Mbit/s", 1e6}, {"kbit/s", 1e3}} {
		if bits >= unit.times {
			return strconv.FormatFloat(bits/unit.times, 'f', 1, 64) + " " + unit.name
		}
	}
	return strconv.FormatFloat(bits, 'f', 0, 64) + " bit/s"
}
