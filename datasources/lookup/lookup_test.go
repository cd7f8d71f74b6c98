package lookup

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Who gives up is recognised by the one who asked; nobody waits for a server
// that does not answer.
func TestGivesUp(t *testing.T) {
	url := silent(t)
	for _, question := range [][]string{
		{"vault", "secret/data/db", "password"}, {"consul_key", "base/ami"}, {"aws_secretsmanager", "db", ""}, {"aws_secretsmanager_raw", "db"},
	} {
		t.Run(question[0], func(t *testing.T) {
			set := awsAt(url)
			set["VAULT_ADDR"], set["VAULT_TOKEN"], set["CONSUL_HTTP_ADDR"] = url, "root", url
			environment(t, set)
			letGo := errors.New("agent lets go")
			ctx, cancel := context.WithCancelCause(context.Background())
			defer time.AfterFunc(50*time.Millisecond, func() { cancel(letGo) }).Stop()
			_, err := ask(ctx, New(), question[0], question[1:]...)
			if !errors.Is(err, letGo) {
				t.Errorf("%v", err)
			}
		})
	}
}
