// Package deps has no code: its tests hold what the tree promises about itself: who may import whom, how long files are, what is exported (api.txt),
// which test holds which sentence of docs/guarantees.md, and why each dependency is there (docs/adr/dependencies.md).
//
//	go test ./internal/deps                          compares
//	go test ./internal/deps -run TestAPI -rewrite    rewrites api.txt
package deps
