package null

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
)

func TestCheck(t *testing.T) {
	const user = "An ssh_username must be specified\n  Note: some builders used to default ssh_username to \"root\"."
	for _, tt := range []struct {
		name, settings string
		unknown        []string
		want           []string
	}{
		{"none", `{"communicator":"none"}`, nil, nil},
		{"password", `{"ssh_host":"h","ssh_username":"u","ssh_password":"p"}`, nil, nil},
		{"agent", `{"ssh_host":"h","ssh_username":"u","ssh_agent_auth":true}`, nil, nil},
		{"nothing", `{}`, nil, []string{user, "host must be specified", "one authentication method must be specified"}},
		{"to come", `{}`, []string{"ssh_host", "ssh_username", "ssh_password"}, nil},
		{
			"two ways", `{"ssh_host":"h","ssh_username":"u","ssh_password":"p","ssh_agent_auth":true}`, nil,
			[]string{"only one of ssh_agent_auth, ssh_password, and ssh_private_key_file must be specified"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, f := range New().Check(json.RawMessage(tt.settings), tt.unknown, bakehouse.Files{}) {
				got = append(got, f.Message)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestArtifact(t *testing.T) {
	want := bakehouse.Artifact{BuilderID: "fnoeding.null", ID: "Null", String: "Did not export anything. This is the null builder"}
	if diff := cmp.Diff(want, New().Artifact(nil)); diff != "" {
		t.Error(diff)
	}
}
