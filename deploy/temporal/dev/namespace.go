package main

import (
	"context"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	temporalconfig "go.temporal.io/server/common/config"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	namespace = "default"
	// retention is how long finished builds can be looked at. The server's own
	// default for a namespace that is made before it starts is one day.
	retention = 30 * 24 * time.Hour
)

// searchAttributes are what submit list filters by. SQLite allows ten.
func searchAttributes() map[string]enumspb.IndexedValueType {
	out := map[string]enumspb.IndexedValueType{}
	for _, name := range []string{
		"BakehouseTemplate", "BakehousePool", "BakehouseSource", "BakehouseState", "BakehouseSubmission",
	} {
		out[name] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
	}
	return out
}

// createNamespace makes the namespace in a database that has none.
func createNamespace(c *temporalconfig.SQL) error {
	n, err := sqliteschema.NewNamespaceConfig(clusterName, namespace, false, searchAttributes())
	if err != nil {
		return err
	}
	n.Detail.Config.Retention = durationpb.New(retention)
	return sqliteschema.CreateNamespaces(c, n)
}

// awaitReady waits until a client can work, and gives the namespace of an
// older database what createNamespace would give to a new one.
func awaitReady(ctx context.Context, address string) error {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	frontend := workflowservice.NewWorkflowServiceClient(conn)
	desc, err := retry(ctx, func(ctx context.Context) (*workflowservice.DescribeNamespaceResponse, error) {
		return frontend.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	})
	if err != nil {
		return fmt.Errorf("wait for the frontend: %w", err)
	}
	if desc.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration() != retention {
		_, err := retry(ctx, func(ctx context.Context) (*workflowservice.UpdateNamespaceResponse, error) {
			return frontend.UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{
				Namespace: namespace,
				Config:    &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(retention)},
			})
		})
		if err != nil {
			return fmt.Errorf("set the retention: %w", err)
		}
	}
	operator := operatorservice.NewOperatorServiceClient(conn)
	have, err := retry(ctx, func(ctx context.Context) (*operatorservice.ListSearchAttributesResponse, error) {
		return operator.ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	})
	if err != nil {
		return fmt.Errorf("list search attributes: %w", err)
	}
	missing := searchAttributes()
	for name, kind := range have.GetCustomAttributes() {
		if want, ok := missing[name]; ok && want != kind {
			return fmt.Errorf("search attribute %s has type %s, not %s: give another -state folder", name, kind, want)
		}
		delete(missing, name)
	}
	if len(missing) == 0 {
		return nil
	}
	if _, err := retry(ctx, func(ctx context.Context) (*operatorservice.AddSearchAttributesResponse, error) {
		return operator.AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
			Namespace: namespace, SearchAttributes: missing,
		})
	}); err != nil {
		return fmt.Errorf("add search attributes: %w", err)
	}
	return nil
}

// retry calls until it goes well or ctx ends: a server that starts refuses
// connections first, and then answers that it is not ready.
func retry[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		out, err := call(try)
		cancel()
		if err == nil {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return out, err
		case <-time.After(10 * time.Millisecond):
		}
	}
}
