// Package faults holds the tests that lead whole clusters of servers, every room of them in
// one process on networks in memory, through partitions, one-way loss, broken connections,
// kills, restarts at other addresses and slow disks, by seeded schedules, and check what
// the clients saw. Nothing in it is part of the product.
package faults
