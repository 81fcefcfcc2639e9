package dnsserver

import (
	"fmt"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/internal/api"
)

// chi2 is how far counts are from what the shares would have.
func chi2(counts []int, shares []float64) float64 {
	total, sum := 0, 0.0
	for _, n := range counts {
		total += n
	}
	for i, n := range counts {
		want := float64(total) * shares[i]
		sum += (float64(n) - want) * (float64(n) - want) / want
	}
	return sum
}

// first counts which of ten instances comes first in picks answers.
func first(t *testing.T, s *Server, qtype uint16, picks int) []int {
	counts := make([]int, 10)
	for range picks {
		rr := ask1(t, s, "ten.service.consul.", qtype, true, 0).Answer[0]
		var n int
		switch r := rr.(type) {
		case *dns.A:
			n = int(r.A.To4()[3])
		case *dns.SRV:
			n = int(r.Port)
		}
		counts[n]++
	}
	return counts
}

func ten(weight func(i int) int) *catalog {
	var list []*api.Instance
	for i := range 10 {
		in := inst(fmt.Sprint("t", i), fmt.Sprint("10.0.0.", i), "", i, api.Passing)
		in.Service.Weights.Passing = weight(i)
		list = append(list, in)
	}
	return &catalog{services: map[string][]*api.Instance{"ten": list}}
}

// Over 300 picks, which instance comes first follows the weights: chi-square stays within
// the bound of 1% (21.67 with nine degrees of freedom) but in about one round of a
// hundred. That chance alone exceeds it in six of thirty has a probability below one in
// a million.
func TestShares(t *testing.T) {
	t.Parallel()
	const picks, rounds, bound = 300, 30, 21.67
	for name, c := range map[string]struct {
		weight func(i int) int
		qtype  uint16
		strict bool
		even   bool
	}{
		"even A":          {func(int) int { return 1 }, dns.TypeA, false, true},
		"even SRV":        {func(int) int { return 3 }, dns.TypeSRV, false, true},
		"weighted A":      {func(i int) int { return 1 + i }, dns.TypeA, false, false},
		"weighted SRV":    {func(i int) int { return 1 + i }, dns.TypeSRV, false, false},
		"strict weighted": {func(i int) int { return 1 + i }, dns.TypeSRV, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := New(Config{Endpoint: ten(c.weight), Datacenter: "dc1", InPlace: true, Strict: c.strict})
			shares := make([]float64, 10)
			for i := range shares {
				shares[i] = 0.1
				if !c.even {
					shares[i] = float64(1+i) / 55
				}
			}
			beyond := 0
			for range rounds {
				if chi2(first(t, s, c.qtype, picks), shares) > bound {
					beyond++
				}
			}
			if beyond > 5 {
				t.Errorf("%d of %d rounds of %d picks are beyond the bound of 1%%", beyond, rounds, picks)
			}
		})
	}
}

// An order has every index once; those without a share come last.
func TestOrder(t *testing.T) {
	t.Parallel()
	var o order
	for _, weights := range [][]int{{}, {1}, {5, 5, 5}, {1, 2, 3, 0, 0, 9}, {0, 0}, slices.Repeat([]int{1, 2}, 500)} {
		o.weighted(weights)
		seen := map[int]bool{}
		zeros := false
		for range weights {
			i := o.next()
			if seen[i] || i < 0 || i >= len(weights) {
				t.Fatalf("%d weights: index %d comes twice, or is none", len(weights), i)
			}
			seen[i] = true
			if zeros && weights[i] > 0 && slices.Max(weights) > 0 {
				t.Errorf("%v: %d with a share behind one without", weights, i)
			}
			zeros = zeros || weights[i] == 0
		}
	}
}
