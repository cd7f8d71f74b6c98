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

// postProcess hands the builder's artifact to every sequence of
// post-processors (packer.md §2.6). A sequence that fails does not keep the
// others from running. The artifact stays unless every sequence gives it up.
func (b *build) postProcess(ctx workflow.Context) error {
	if len(b.artifacts) == 0 || len(b.Outline.PostProcessors) == 0 {
		return nil
	}
	made := b.artifacts[0]
	captured := workflow.Now(ctx).Unix()
	keep := false
	var failures []string
	n := 0
	for _, sequence := range b.Outline.PostProcessors {
		artifact := made
		for i, p := range sequence {
			n++
			out, err := b.process(ctx, n, p, artifact, captured)
			if temporal.IsCanceledError(err) {
				return err
			}
			if err != nil {
				failures = append(failures, "* Post-processor failed: "+cause(err))
				keep = true
				break
			}
			keepInput := out.Keep || p.KeepInputArtifact != nil && *p.KeepInputArtifact
			if i == 0 && keepInput {
				keep = true
			}
			b.outputs = append(b.outputs, out.Outputs...)
			b.artifacts = append(b.artifacts, out.Artifact)
			artifact = out.Artifact
		}
	}
	if len(failures) > 0 {
		// The image is there, and the user must be able to find it: unlike Packer,
		// whose list of artifacts then is empty, the result names it.
		return temporal.NewApplicationError(fmt.Sprintf("%d error(s) occurred:\n\n%s", len(failures), strings.Join(failures, "\n")), string(bakehouse.Failed))
	}
	if !keep {
		b.finished = nil
		b.artifacts = b.artifacts[1:]
		b.release(ctx, nil)
	}
	return nil
}

func (b *build) process(ctx workflow.Context, n int, p template.PlannedPostProcessor, artifact bakehouse.Artifact, captured int64) (postprocessors.Result, error) {
	var out postprocessors.Result
	work, step := b.step(works(ctx), fmt.Sprintf("postprocess-%d-%s", n, p.Type))
	err := workflow.ExecuteActivity(work, do.PostProcess, activities.PostProcessing{
		Step: step, Resolved: b.resolved, Login: b.login, PostProcessor: p, Artifact: artifact, Time: captured,
	}).Get(work, &out)
	return out, err
}
