package amazon

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
)

// The steps that make something, as the tag bakehouse:step names them.
const (
	stepKeyPair = "key-pair"
	stepGroup   = "security-group"
	stepLaunch  = "launch"
	stepCapture = "capture"
	stepCopy    = "copy"
	// stepCheckpoint is followed by the name of the checkpoint.
	stepCheckpoint = "checkpoint"
)

// again names a step that is done anew in a later attempt of the build.
func again(b bakehouse.Build, step string) string {
	if b.Attempt == 0 {
		return step
	}
	return step + "." + strconv.Itoa(b.Attempt)
}

// tagKey is the tag that tells which public key an imported key pair holds.
// Fingerprints would do, but EC2 has three ways to compute them.
const tagKey = "bakehouse:key"

// marks returns the tags that everything carries which step makes for b.
func marks(b bakehouse.Build, step string) map[string]string {
	m := map[string]string{
		bakehouse.TagBuild:  string(b.ID),
		bakehouse.TagSource: b.Name,
		bakehouse.TagStep:   step,
	}
	if !b.ExpiresAt.IsZero() {
		m[bakehouse.TagExpiresAt] = b.ExpiresAt.UTC().Format(time.RFC3339)
	}
	return m
}

// marked returns own together with the marks of the build, which win.
func marked(b bakehouse.Build, step string, own map[string]string) map[string]string {
	out := maps.Clone(own)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, marks(b, step))
	return out
}

// tagList returns tags in the order of their keys: requests that are sent again
// must be the same.
func tagList(m map[string]string) []types.Tag {
	out := make([]types.Tag, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, types.Tag{Key: aws.String(k), Value: aws.String(m[k])})
	}
	return out
}

// spec asks for tags at creation.
func spec(kind types.ResourceType, tags map[string]string) types.TagSpecification {
	return types.TagSpecification{ResourceType: kind, Tags: tagList(tags)}
}

// tag returns the value of one tag.
func tag(tags []types.Tag, key string) string {
	for _, t := range tags {
		if aws.ToString(t.Key) == key {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

// ours tells whether something belongs to b.
func ours(b bakehouse.Build, tags []types.Tag) bool {
	return b.ID != "" && tag(tags, bakehouse.TagBuild) == string(b.ID)
}

// madeBy returns the filters that find what step made for b. Without a step,
// they find all that was made for b.
func madeBy(b bakehouse.Build, step string) []types.Filter {
	out := []types.Filter{filter("tag:"+bakehouse.TagBuild, string(b.ID))}
	if step != "" {
		out = append(out, filter("tag:"+bakehouse.TagStep, step))
	}
	return out
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}

// token returns the client token for one request of a build: the same for each
// time that it is sent.
func token(b bakehouse.Build, parts ...string) string {
	sum := sha256.Sum256([]byte(string(b.ID) + "\x00" + strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}

// ownName is what the build calls things that only it uses.
func ownName(b bakehouse.Build) string { return "bakehouse-" + string(b.ID) }
