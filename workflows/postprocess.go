package workflows

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/activities"
	"github.com/bakehouse-farm/bakehouse/postprocessors"
	"github.com/bakehouse-farm/bakehouse/template"
)

// A Sequence tells how far a sequence of post-processors has come.
type Sequence struct {
	// Next is the post-processor that comes next, Artifact what it works on.
	Next     int                `json:"next"`
	Artifact bakehouse.Artifact `json:"artifact"`
	// Keep tells that the sequence keeps the builder's artifact.
	Keep bool `json:"keep,omitempty"`
}

// postProcess hands the builder's artifact to every sequence of
// post-processors (packer.md §2.6). A sequence that fails does not keep the
// others from running. The artifact stays unless every sequence gives it up.
func (b *build) postProcess(ctx workflow.Context) error {
	if len(b.Artifacts) == 0 || len(b.Outline.PostProcessors) == 0 {
		return nil
	}
	b.leaving = true
	captured := workflow.Now(ctx).Unix()
	for {
		err := b.sequences(ctx, captured)
		if err == nil {
			break
		}
		if err = b.reconsider(ctx, err); err != nil {
			if temporal.IsCanceledError(err) || ctx.Err() != nil {
				b.takeBack(ctx, err)
			}
			b.keep(ctx, err)
			return err
		}
	}
	for _, s := range b.Sequences {
		if s.Keep {
			return nil
		}
	}
	b.Finished = nil
	b.Artifacts = b.Artifacts[1:]
	b.release(ctx, nil)
	return nil
}

// takeBack removes the images of a build that is cancelled when they are there
// already: whoever cancels a build wants nothing of it.
func (b *build) takeBack(ctx workflow.Context, cancelled error) {
	b.Finished, b.Artifacts, b.Outputs = nil, nil, nil
	b.release(ctx, cancelled)
}

// sequences runs what is left of every sequence.
func (b *build) sequences(ctx workflow.Context, captured int64) error {
	if b.Sequences == nil {
		for range b.Outline.PostProcessors {
			b.Sequences = append(b.Sequences, Sequence{Artifact: b.Artifacts[0]})
		}
	}
	var failures []string
	n := 0
	for i, list := range b.Outline.PostProcessors {
		s := &b.Sequences[i]
		for ; s.Next < len(list); s.Next++ {
			p := list[s.Next]
			out, err := b.process(ctx, n+s.Next+1, p, s.Artifact, captured)
			if temporal.IsCanceledError(err) {
				return err
			}
			if err != nil {
				failures = append(failures, "* Post-processor failed: "+cause(err))
				break
			}
			if s.Next == 0 && (out.Keep || p.KeepInputArtifact != nil && *p.KeepInputArtifact) {
				s.Keep = true
			}
			b.Outputs = append(b.Outputs, out.Outputs...)
			b.Artifacts = append(b.Artifacts, out.Artifact)
			s.Artifact = out.Artifact
		}
		n += len(list)
	}
	if len(failures) == 0 {
		return nil
	}
	// The image is there, and the user must be able to find it: unlike Packer,
	// whose list of artifacts then is empty, the result names it.
	return temporal.NewApplicationError(fmt.Sprintf("%d error(s) occurred:\n\n%s", len(failures), strings.Join(failures, "\n")), string(bakehouse.Failed))
}

func (b *build) process(ctx workflow.Context, n int, p template.PlannedPostProcessor, artifact bakehouse.Artifact, captured int64) (postprocessors.Result, error) {
	var out postprocessors.Result
	work, step := b.step(works(ctx), fmt.Sprintf("postprocess-%d-%s", n, p.Type))
	err := workflow.ExecuteActivity(work, do.PostProcess, activities.PostProcessing{
		Step: step, Resolved: b.Resolved, Login: b.Login, PostProcessor: p, Artifact: artifact, Time: captured,
	}).Get(work, &out)
	return out, err
}
