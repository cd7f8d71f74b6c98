package activities

import (
	"context"
	"slices"
	"sync"

	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// A veil hides the secrets of one step: those of its plan, and those that the
// step came across itself.
type veil struct {
	mu      sync.RWMutex
	secrets []string
	masker  *secret.Masker
}

// Mask is secret.Masker's.
func (v *veil) Mask(text string) string { return v.now().Mask(text) }

// Pending is secret.Masker's.
func (v *veil) Pending(text string) int { return v.now().Pending(text) }

func (v *veil) now() *secret.Masker {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.masker
}

// hide adds secrets, for whatever is written from now on.
func (v *veil) hide(secrets []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	known := make(map[string]bool, len(v.secrets))
	for _, s := range v.secrets {
		known[s] = true
	}
	var more []string
	for _, s := range secrets {
		if !known[s] {
			known[s] = true
			more = append(more, s)
		}
	}
	if len(more) > 0 {
		v.secrets = slices.Concat(v.secrets, more) // the plan keeps its own
		v.masker = secret.NewMasker(v.secrets)
	}
}

type veilKey struct{}

func withVeil(ctx context.Context, v *veil) context.Context {
	return context.WithValue(ctx, veilKey{}, v)
}

// hide hides secrets in what the step that ctx belongs to writes from now on.
func hide(ctx context.Context, secrets []string) {
	if v, ok := ctx.Value(veilKey{}).(*veil); ok {
		v.hide(secrets)
	}
}
