// Package oneproc is imported by tests for its effect: under the race detector they run on
// one processor.
//
// Go 1.26's race detector keeps one state for all timers of a testing/synctest bubble. A
// goroutine that receives from a timer's channel after its time fires the timer itself; two
// that do so at once break that state, and the program ends with a fault inside the
// detector. Tests whose bubbles have many such goroutines import this package: where one
// runs at a time, the state is whole, and races are found as before, since they are told by
// what happened before what, not by what happened at once.
package oneproc
