package demo

import (
	"context"
	"strings"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
)

// deployment is the input of deploy.
type deployment struct {
	Release string `json:"release"`
	Broken  bool   `json:"broken,omitempty"` // the last step fails
}

// migration is the input of migrate.
type migration struct {
	Release string           `json:"release"`
	Reserve cluster.NodeName `json:"reserve"`
	Migrate cluster.NodeName `json:"migrate"`
}

// events makes the events, which this process handles.
func (d *demo) events() {
	d.deploy = &distgear.Event[deployment, string]{Name: "deploy", On: d.onDeploy}
	d.migrate = &distgear.Event[migration, string]{Name: "migrate-db", On: d.onMigrate}
	d.index = &distgear.Event[string, string]{Name: "index-all", On: d.onIndex}
}

func (d *demo) onDeploy(ctx context.Context, r *distgear.Run, in deployment) (string, error) {
	p := distgear.Plan{Rollback: true}
	var parts []*distgear.Step[Made]
	var deps []distgear.Dep
	for i, w := range workers {
		takes := time.Duration(300+150*i) * time.Millisecond
		s := d.kit.Fetch.Step(&p, distgear.On(w), Work{Release: in.Release, Step: "fetch-" + string(w), Takes: takes}).Named("fetch-" + string(w))
		parts, deps = append(parts, s), append(deps, s)
	}
	join := d.kit.Join.StepFunc(&p, distgear.On(workers[0]), func() (Work, error) {
		var sums []string
		for _, s := range parts {
			made, err := s.Result()
			if err != nil {
				return Work{}, err
			}
			sums = append(sums, made.Sum)
		}
		return Work{Release: in.Release, Step: "join", Takes: 350 * time.Millisecond, Text: strings.Join(sums, " ")}, nil
	}, deps...)
	start := d.kit.Start.StepFunc(&p, distgear.Any(), func() (Work, error) {
		made, err := join.Result()
		return Work{Release: in.Release, Step: "start", Takes: 300 * time.Millisecond, Text: made.Sum, Broken: in.Broken}, err
	}, join)
	if err := r.Do(ctx, &p); err != nil {
		return "", err
	}
	made, err := start.Result()
	return made.Sum, err
}

func (d *demo) onMigrate(ctx context.Context, r *distgear.Run, in migration) (string, error) {
	p := distgear.Plan{Rollback: true}
	reserve := d.kit.Reserve.Step(&p, distgear.On(in.Reserve), Work{Release: in.Release, Step: "reserve", Takes: 200 * time.Millisecond})
	migrate := d.kit.Migrate.Step(&p, distgear.On(in.Migrate), Work{Release: in.Release, Step: "migrate", Takes: 2 * time.Second}, reserve)
	if err := r.Do(ctx, &p); err != nil {
		return "", err
	}
	made, err := migrate.Result()
	return made.Sum, err
}

func (d *demo) onIndex(ctx context.Context, r *distgear.Run, release string) (string, error) {
	var p distgear.Plan
	index := d.kit.Index.Step(&p, distgear.Any(), Work{Release: release, Step: "index", Takes: 1500 * time.Millisecond})
	if err := r.Do(ctx, &p); err != nil {
		return "", err
	}
	made, err := index.Result()
	return made.Sum, err
}
