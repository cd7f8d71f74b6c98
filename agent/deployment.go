package agent

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// versioned makes the worker one of a deployment: builds are finished by agents
// of the version that they began with.
func versioned(o worker.Options, deployment string, version int) worker.Options {
	if deployment != "" {
		o.DeploymentOptions = worker.DeploymentOptions{
			UseVersioning:             true,
			Version:                   worker.WorkerDeploymentVersion{DeploymentName: deployment, BuildID: strconv.Itoa(version)},
			DefaultVersioningBehavior: workflow.VersioningBehaviorPinned,
		}
	}
	return o
}

// promote makes our version the one that new builds begin with, unless that is
// newer already. It tries until it has heard, or ctx ends: a deployment is not
// known before an agent of it has polled for a moment.
func promote(ctx context.Context, farm client.Client, deployment string, version int, log *slog.Logger) {
	handle := farm.WorkerDeploymentClient().GetHandle(deployment)
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		done, err := promoted(ctx, handle, version)
		if done {
			return
		}
		var early *serviceerror.NotFound
		var raced *serviceerror.FailedPrecondition
		if err != nil && ctx.Err() == nil && !errors.As(err, &early) && !errors.As(err, &raced) {
			log.Warn("version of the deployment could not be made the current one; trying again", "deployment", deployment, "version", version, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func promoted(ctx context.Context, handle client.WorkerDeploymentHandle, version int) (bool, error) {
	d, err := handle.Describe(ctx, client.WorkerDeploymentDescribeOptions{})
	if err != nil {
		return false, err
	}
	if c := d.Info.RoutingConfig.CurrentVersion; c != nil {
		if current, err := strconv.Atoi(c.BuildID); err == nil && current >= version {
			return true, nil
		}
	}
	_, err = handle.SetCurrentVersion(ctx, client.WorkerDeploymentSetCurrentVersionOptions{
		BuildID: strconv.Itoa(version), ConflictToken: d.ConflictToken, IgnoreMissingTaskQueues: true,
	})
	return err == nil, err
}
