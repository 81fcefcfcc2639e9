package dnsserver

import (
	"math/rand/v2"

	"github.com/rollcall/rollcall/internal/api"
)

// order gives the indexes of a list in a random order, one at a time: who needs three
// of a thousand pays for three. Where shares differ, the chance to come next is an
// index's share of what is left; those without a share come last. The memory is kept
// for the next time.
type order struct {
	all  []int     // every index; those not given yet are the first, a heap by lot if there are lots
	left int       // how many are not given yet
	lots []float64 // by index: the smaller, the sooner; empty where all have the same share
}

// even begins anew with n indexes that have the same share.
func (o *order) even(n int) {
	// Any order is as good a beginning as another: what was shuffled before may stay.
	if len(o.all) != n {
		o.all = o.all[:0]
		for i := range n {
			o.all = append(o.all, i)
		}
	}
	o.left, o.lots = n, o.lots[:0]
}

// weighted begins anew with as many indexes as there are weights.
func (o *order) weighted(weights []int) {
	o.even(len(weights))
	// An exponential variate of rate w each, in ascending order, is a draw by weights
	// without putting back.
	for _, w := range weights {
		lot := 1e18 + rand.Float64()*1e18
		if w > 0 {
			lot = rand.ExpFloat64() / float64(w)
		}
		o.lots = append(o.lots, lot)
	}
	for i := o.left/2 - 1; i >= 0; i-- {
		o.sink(i)
	}
}

// next gives the next index. It must not be called more often than there are indexes.
func (o *order) next() int {
	at := 0
	if len(o.lots) == 0 {
		at = rand.IntN(o.left)
	}
	o.left--
	i := o.all[at]
	o.all[at], o.all[o.left] = o.all[o.left], i
	if len(o.lots) > 0 {
		o.sink(0)
	}
	return i
}

// sink lets the entry at i down to its place in the heap.
func (o *order) sink(i int) {
	for {
		child := 2*i + 1
		if child >= o.left {
			return
		}
		if r := child + 1; r < o.left && o.lots[o.all[r]] < o.lots[o.all[child]] {
			child = r
		}
		if o.lots[o.all[i]] <= o.lots[o.all[child]] {
			return
		}
		o.all[i], o.all[child] = o.all[child], o.all[i]
		i = child
	}
}

// alike reports whether all weights are the same.
func alike(weights []int) bool {
	for _, w := range weights {
		if w != weights[0] {
			return false
		}
	}
	return true
}

func shuffle(list []*api.Instance) {
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}
