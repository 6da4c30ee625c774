package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// A figure is what a bench found: one number of ours and one of the limit for
// each round.
type figure struct {
	name        string
	unit        string
	ours, limit []float64
	n           int // how often the thing was done by ours, in all rounds
}

// add adds a round.
func (f *figure) add(ours, limit float64, n int) {
	f.ours, f.limit = append(f.ours, ours), append(f.limit, limit)
	f.n += n
}

// String returns the figure's line.
func (f *figure) String() string {
	ratios := make([]float64, len(f.ours))
	for i := range ratios {
		ratios[i] = f.ours[i] / f.limit[i]
	}
	ratio := median(ratios)
	spread := 100 * (slices.Max(ratios) - slices.Min(ratios)) / ratio
	return fmt.Sprintf("bench: %s %.2f unit=%s ours=%s limit=%s n=%d spread=%.0f%%",
		f.name, ratio, f.unit, short(median(f.ours)), short(median(f.limit)), f.n, spread)
}

// short writes a number with three digits that count.
func short(x float64) string {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return fmt.Sprint(x)
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(x))))
	return fmt.Sprintf("%.*f", max(digits, 0), x)
}

// median returns the middle one of the numbers, which it does not change.
func median(of []float64) float64 { return percentile(of, 50) }

// percentile returns the smallest number that p of a hundred are no greater than.
func percentile(of []float64, p float64) float64 {
	if len(of) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(of))
	i := int(math.Ceil(p/100*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// milliseconds turns durations into numbers.
func milliseconds(of []time.Duration) []float64 {
	numbers := make([]float64, len(of))
	for i, d := range of {
		numbers[i] = float64(d) / float64(time.Millisecond)
	}
	return numbers
}
