package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/bakehouse-farm/bakehouse/agent/bundle"
)

// tidyEvery is how often an agent looks for bundles that are not used any more.
const tidyEvery = time.Minute

// tidy removes unpacked bundles until ctx ends; see bundle.Tidy.
func tidy(ctx context.Context, cache string, unused time.Duration, log *slog.Logger) {
	look := time.NewTicker(min(tidyEvery, max(unused/2, 100*time.Millisecond)))
	defer look.Stop()
	said := ""
	for {
		removed, err := bundle.Tidy(cache, unused, func() bool { return bundle.NearlyFull(cache) })
		for _, d := range removed {
			log.Info("removed an unpacked bundle", "bundle", d)
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != "" && text != said {
			log.Warn("unpacked bundles could not be removed", "error", err)
		}
		said = text
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}
