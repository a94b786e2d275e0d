//go:build !race

package greedy

const raceEnabled = false
