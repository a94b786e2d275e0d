# make check is what CI runs (.ci/run); steps of it: make check STEPS="lint test"
.PHONY: check test lint soak bench fuzz api

STEPS ?=
SOAK  ?= 10m
FUZZ  ?= 60s
BENCHTIME ?= 2s

check:
	bash .ci/run $(STEPS)

test:
	go test ./...

lint:
	bash .ci/run tools gofmt vet lint

# The same tests again and again with other seeds, under the race detector. A failure prints its seed.
soak:
	@end=$$(($$(date +%s) + $$(echo $(SOAK) | sed 's/h/*3600/;s/m/*60/;s/s//' | { read e; echo $$(($$e)); }))); \
	round=0; while [ $$(date +%s) -lt $$end ]; do round=$$((round + 1)); echo "── round $$round"; \
		go test -race -count=1 -shuffle=on ./... && go test -race -count=1 -run TestHubGone . -hubgone 12s \
		&& go test -count=1 -timeout 30m -run 'TestChaos|TestTakeover' ./hub -chaos 10 \
		&& go test -count=1 -run TestCrash ./internal/runs -whole \
		&& go test -count=1 -timeout 20m -run TestChaos ./internal/work/durable -soak 60s \
		&& go test -race -count=1 -timeout 20m -run TestDurable_Chaos . -chaos 60s \
		&& go test -race -count=1 -timeout 20m -run TestConformance ./shared -soak 20s || exit 1; done

bench:
	go test -run '^$$' -bench . -benchtime $(BENCHTIME) ./...
	cd bench && go run .

# Each fuzz target in turn, for FUZZ each.
fuzz:
	@for pkg in $$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./...); do \
		for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$pkg/*_test.go | sed 's/func //'); do \
			echo "── $$pkg $$f"; (cd $$pkg && go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZ) .) || exit 1; done; done

# Rewrites api.txt: what each public package exports. The test in internal/deps compares it.
api:
	go test ./internal/deps -run TestAPI -count=1 -rewrite
