package main

import (
	"fmt"
	"io"
	"slices"
)

// figures are what one measurement found, by name.
type figures map[string]float64

// row is one line of the table: a figure and what is promised of it.
type row struct {
	what   string
	figure string
	scale  float64 // the figure is printed divided by this
	unit   string
	target float64 // of the ratio conec / bare; 0 if nothing is promised
	atMost bool    // the target is an upper limit
	alone  bool    // conec alone has the figure, and the target is for the figure itself
}

// result is a row with what was measured.
type result struct {
	row
	ours, bare       float64 // medians
	ratio, low, high float64 // of the pairs; of conec's scaled figures if it is alone
}

// judge puts the pairs of measurements together.
func (r row) judge(ours, bare []figures) result {
	var a, b, ratios []float64
	for i := range ours {
		a = append(a, ours[i][r.figure])
		b = append(b, bare[i][r.figure])
		if r.alone {
			ratios = append(ratios, a[i]/r.scale)
		} else {
			ratios = append(ratios, a[i]/b[i])
		}
	}
	return result{
		row: r, ours: median(a), bare: median(b),
		ratio: median(ratios), low: slices.Min(ratios), high: slices.Max(ratios),
	}
}

// verdict says whether the promise was kept.
func (r result) verdict() string {
	switch {
	case r.target == 0:
		return ""
	case r.atMost && r.ratio <= r.target, !r.atMost && r.ratio >= r.target:
		return "ok"
	}
	return "MISSED"
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}

const format = "%-42s %12s %12s %-7s %7s %15s %8s  %s\n"

func printHead(w io.Writer) {
	fmt.Fprintf(w, format, "what", "conec", "bare quic-go", "", "ratio", "(low to high)", "target", "")
}

func printRow(w io.Writer, r result) {
	ratio, spread, bare := fmt.Sprintf("%.2f", r.ratio), fmt.Sprintf("(%.2f to %.2f)", r.low, r.high), fmt.Sprintf("%.2f", r.bare/r.scale)
	if r.alone {
		ratio, bare = "", ""
	}
	target := ""
	if r.target != 0 {
		target = fmt.Sprintf(">= %.2f", r.target)
		if r.atMost {
			target = fmt.Sprintf("<= %.2f", r.target)
		}
	}
	fmt.Fprintf(w, format, r.what, fmt.Sprintf("%.2f", r.ours/r.scale), bare, r.unit, ratio, spread, target, r.verdict())
}
