package laboratory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/laboratory/site"
	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/layer"
)

// A Finding is what was found of one build.
type Finding struct {
	Build  string // its source's name
	Number int
	// Outcome is "succeeded", "failed", "cancelled" or "did not end".
	Outcome string
	Reason  string
	// Trouble says all that is not as it should be; empty for a good end.
	Trouble []string
	// Lost tells that the build did not end as it should.
	Lost bool
	// Twice is how many runs of scripts were one too many, Bytes how much of the
	// log is missing or doubled, Left how many resources are left.
	Twice, Bytes, Left int
	// Again is how many resources were made although they had been.
	Again int
	Took  time.Duration
	// Kinds are the faults that it met.
	Kinds []string

	status int // of submit
	images []localImage
}

func (f *Finding) add(format string, args ...any) {
	f.Trouble = append(f.Trouble, fmt.Sprintf(format, args...))
}

// check decides from outside whether a build ended as it should.
func (b *baking) check(ctx context.Context, v verdict, own []*strike) (Finding, error) {
	f := Finding{Build: b.recipe.Name, Number: b.recipe.N, status: v.status}
	var res bakehouse.Result
	if len(v.results) > 0 {
		res = v.results[0]
	}
	f.Reason = res.Error
	if f.Reason == "" {
		f.Reason = v.failure
	}
	switch {
	case v.overdue:
		f.Outcome, f.Lost = "did not end", true
		f.add("it did not end within %s", b.patience)
	case v.status == 0, res.Error == "" && len(res.Artifacts) > 0 && cancelled(own):
		// Cancelled when all was done: the images are there, and are named.
		f.Outcome = "succeeded"
	case res.Cancelled:
		f.Outcome = "cancelled"
	default:
		f.Outcome = "failed"
	}
	if !v.overdue {
		f.judge(b.recipe, own)
	}
	if res.Leftovers != "" {
		f.add("it says that it left something behind: %s", res.Leftovers)
	}
	var images []localImage
	if f.Outcome == "succeeded" {
		images = b.checkImages(ctx, &f, res)
		f.images = images
	}
	b.checkRuns(ctx, &f, v, images)
	b.checkStays(&f, v.log)
	b.checkMade(&f, own)
	return f, b.checkLeft(ctx, &f, images)
}

func cancelled(own []*strike) bool {
	return slices.ContainsFunc(own, func(x *strike) bool { return x.Kind == cancelBuild })
}

// judge says whether the outcome is one that the faults of the build allow.
func (f *Finding) judge(b Recipe, own []*strike) {
	var may, must []string
	explained := false
	for _, x := range own {
		k := kindNamed(x.Kind)
		if k.may == nil || !k.may(b) {
			continue
		}
		may = append(may, x.Kind)
		if k.must != nil && k.must(b) && x.sure && !b.forgives() {
			must = append(must, x.Kind)
		}
		if x.unseen && k.why == gone && killed.MatchString(f.Reason) {
			explained = true // that is all that anybody could know
		}
		if f.Reason != "" && k.why.MatchString(f.Reason) || x.Kind == cancelBuild && f.Outcome == "cancelled" {
			explained = true
		}
	}
	switch {
	case f.Outcome == "succeeded" && len(must) > 0:
		f.Lost = true
		f.add("it succeeded in spite of: %s", strings.Join(must, ", "))
	case f.Outcome == "succeeded":
	case len(may) == 0:
		f.Lost = true
		f.add("it %s, and nothing that it met is a reason to: %q", f.Outcome, f.Reason)
	case f.Reason == "":
		f.Lost = true
		f.add("it does not say why it %s (exit status %d)", f.Outcome, f.status)
	case !explained:
		f.Lost = true
		f.add("it met %s, and says something else: %q", strings.Join(may, ", "), f.Reason)
	}
}

// A localImage is one image of a successful build.
type localImage struct{ region, id string }

// checkImages checks that manifest and artifact name the same images, one in
// each region, and that these exist.
func (b *baking) checkImages(ctx context.Context, f *Finding, res bakehouse.Result) []localImage {
	if len(res.Artifacts) == 0 {
		f.Lost = true
		f.add("it succeeded without an artifact")
		return nil
	}
	artifact := res.Artifacts[0].ID
	var images []localImage
	var regions []string
	for _, part := range strings.Split(artifact, ",") {
		region, id, _ := strings.Cut(part, ":")
		images = append(images, localImage{region, id})
		regions = append(regions, region)
	}
	want := append([]string{home}, copies...)
	slices.Sort(regions)
	slices.Sort(want)
	if !slices.Equal(regions, want) {
		f.Lost = true
		f.add("its images are in %v, not in %v", regions, want)
	}
	if named, err := manifest(filepath.Join(b.dir, "manifest.json")); err != nil {
		f.add("manifest: %v", err)
	} else if named != artifact {
		f.add("the manifest names %s, the artifact is %s", named, artifact)
	}
	for _, i := range images {
		var state string
		err := b.eventually(ctx, func() error {
			list, err := b.site.Control().Census(ctx, localcloud.Search{Region: i.region})
			for _, r := range list {
				if r.ID == i.id {
					state = r.State
				}
			}
			return err
		})
		if err != nil || state != "available" {
			f.Lost = true
			f.add("image %s in %s is %q, not available (%v)", i.id, i.region, state, err)
		}
	}
	return images
}

// manifest returns the artifact of the last run that a manifest names.
func manifest(name string) (string, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	var m struct {
		Builds []struct {
			Artifact string `json:"artifact_id"`
			Run      string `json:"packer_run_uuid"`
		} `json:"builds"`
		Last string `json:"last_run_uuid"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return "", err
	}
	if len(m.Builds) != 1 || m.Builds[0].Run != m.Last {
		return "", fmt.Errorf("it names %d builds, not this one alone", len(m.Builds))
	}
	return m.Builds[0].Artifact, nil
}

// checkRuns checks which scripts ran, and that the log has what they wrote.
func (b *baking) checkRuns(ctx context.Context, f *Finding, v verdict, images []localImage) {
	log := readLog(v.log)
	known := map[string]*ran{} // the most that is known of each run
	whole := map[string]bool{}
	learn := func(journal []string, final bool) {
		list, _ := runs(journal)
		for _, r := range list {
			if k := known[r.run]; k == nil || len(r.lines) > len(k.lines) {
				known[r.run] = r
			}
			if r.end != "" || final {
				whole[r.run] = whole[r.run] || final
			}
		}
	}
	b.track.mu.Lock()
	journals := maps.Clone(b.track.journals)
	machines := len(b.track.machines)
	b.track.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(journals)) {
		trouble, twice := onceEach(b.recipe, journals[id])
		f.Trouble, f.Twice = append(f.Trouble, trouble...), f.Twice+twice
		learn(journals[id], false)
	}
	if len(images) > 0 {
		layers, err := b.content(ctx, images)
		if err != nil {
			f.Lost = true
			f.add("its image cannot be read: %v", err)
			return
		}
		journal, _ := readLines(topmost(layers, "home/ubuntu/lab/journal"))
		trouble, twice := wholeJournal(b.recipe, journal)
		if len(trouble) > 0 {
			f.Lost = true
		}
		f.Trouble, f.Twice = append(f.Trouble, trouble...), f.Twice+twice
		learn(journal, true)
		if got, err := os.ReadFile(topmost(layers, "home/ubuntu/payload")); b.recipe.Upload && !b.recipe.Checkpoint &&
			(err != nil || sha256.Sum256(got) != sha256.Sum256(b.recipe.payload())) {
			f.Lost = true
			f.add("image: the uploaded file is not what was sent (%d bytes, %v)", len(got), err)
		}
	}
	shown := readLog(v.shown)
	for _, run := range slices.Sorted(maps.Keys(known)) {
		if text, n := shown.compare(known[run], whole[run]); text != "" {
			f.add("shown by submit: %s", text)
			f.Bytes += n
		}
		if text, n := log.compare(known[run], whole[run]); text != "" {
			f.add("log: %s", text)
			f.Bytes += n
		}
	}
	for _, run := range log.order {
		if known[run] == nil && machines <= 1 {
			f.add("log: a run of script %d that the machine knows nothing of", log.runs[run].script)
			f.Twice++
		}
	}
}

// checkMade checks that nothing was made twice: a second machine is money, even
// if it is removed in the end.
func (b *baking) checkMade(f *Finding, own []*strike) {
	may := map[string]int{"key-pair in " + home: 1, "security-group in " + home: 1, "instance in " + home: 1}
	for _, x := range own {
		switch x.Kind {
		case terminateMachine, terminateMachine + ", policy fail", failHost, rebootMachine, noCapacityAfterAll: // each may cost a machine
			may["instance in "+home]++
		}
	}
	if !b.recipe.Checkpoint {
		may["image in "+home] = 1
	}
	for _, region := range copies {
		may["image in "+region] = 1
	}
	for _, x := range own {
		if x.Kind == "copy fails" || x.Kind == "image fails" {
			for what := range may { // of each image that failed, another was made instead
				if strings.HasPrefix(what, "image in ") {
					may[what] += x.hits
				}
			}
		}
	}
	b.track.mu.Lock()
	defer b.track.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(may)) {
		if n := b.track.made[what]; n > may[what] {
			f.Again += n - may[what]
			f.add("made %d times: %s", n, what)
		}
	}
}

// content finds what the image in the build's own region is made of: the layers
// that its machine wrote, the topmost first. There is one for each image that
// was made of it.
func (b *baking) content(ctx context.Context, images []localImage) ([]string, error) {
	i := slices.IndexFunc(images, func(i localImage) bool { return i.region == home })
	if i < 0 {
		return nil, fmt.Errorf("no image in %s", home)
	}
	source := ""
	err := b.eventually(ctx, func() error {
		list, err := b.site.Control().Images(ctx)
		for _, img := range list {
			if img.Region == home && img.ID == images[i].id {
				source = img.SourceInstance
			}
		}
		return err
	})
	if err != nil || source == "" {
		return nil, fmt.Errorf("image %s has no machine that it was made of: %v", images[i].id, err)
	}
	return layersOf(b.site, source)
}

// layersOf returns the folders of the layers that a machine wrote, newest first.
func layersOf(s *site.Site, instance string) (dirs []string, err error) {
	names, err := filepath.Glob(filepath.Join(s.Layers(), "*", "layer.json"))
	if err != nil {
		return nil, err
	}
	made := map[string]time.Time{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // removed meanwhile
		}
		var o layer.Origin
		if json.Unmarshal(data, &o) == nil && o.Instance == instance {
			dir := filepath.Join(filepath.Dir(name), "files")
			made[dir] = o.Created
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("no layer of machine %s", instance)
	}
	slices.SortFunc(dirs, func(a, b string) int { return made[b].Compare(made[a]) })
	return dirs, nil
}

// topmost returns where the first layer is that has the file, or where it would
// be in the first.
func topmost(layers []string, file string) string {
	for _, dir := range layers {
		name := filepath.Join(dir, file)
		if _, err := os.Lstat(name); err == nil {
			return name
		}
	}
	return filepath.Join(layers[0], file)
}

// checkLeft counts what is left of the build but its images and snapshots.
func (b *baking) checkLeft(ctx context.Context, f *Finding, images []localImage) error {
	var list []localcloud.Resource
	err := b.eventually(ctx, func() (err error) {
		list, err = b.site.Control().Census(ctx, localcloud.Search{Tags: map[string]string{bakehouse.TagSource: "amazon-ebs." + b.recipe.Name}})
		return err
	})
	if err != nil {
		return err
	}
	snapshots := len(images)
	for _, r := range list {
		switch {
		case r.Kind == "instance" && r.State == "terminated":
			continue
		case r.Kind == "image" && slices.Contains(images, localImage{r.Region, r.ID}):
			continue
		case r.Kind == "snapshot" && snapshots > 0:
			snapshots-- // each image has one
			continue
		}
		f.Left++
		f.add("left: %s %s in %s (%s)%s", r.Kind, r.ID, r.Region, r.State, past(r))
	}
	return nil
}

// past is what became of a resource, for people.
func past(r localcloud.Resource) string {
	var b bytes.Buffer
	for _, m := range r.History {
		fmt.Fprintf(&b, " %s %s", m.Action, m.State)
	}
	return b.String()
}
