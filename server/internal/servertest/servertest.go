// Package servertest builds servers and clusters inside one process for tests, on
// networks in memory that can be partitioned, healed and cut. Nothing in it is part of
// the product.
package servertest
