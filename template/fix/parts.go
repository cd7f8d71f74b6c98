package fix

import "strings"

func manifestFilename(d *document) error {
	for _, p := range typed(d.postProcessors, "manifest") {
		if is[string](p, "filename") {
			move(p, "filename", "output")
		}
	}
	return nil
}

func dockerEmail(d *document) error {
	for _, p := range d.postProcessors {
		delete(p, "login_email")
	}
	return nil
}

// dockerTags puts "tag", a text with commas or a list, before what is in
// "tags". Anything else is left for the post-processor to refuse.
func dockerTags(d *document) error {
	for _, p := range typed(d.postProcessors, "docker-tag") {
		tags, ok := tagsOf(p["tags"])
		more, also := tagsOf(p["tag"])
		if !ok && has(p, "tags") || !also && has(p, "tag") || !ok && !also {
			continue
		}
		delete(p, "tag")
		p["tags"] = append(more, tags...)
	}
	return nil
}

func tagsOf(v any) ([]any, bool) {
	switch v := v.(type) {
	case string:
		var tags []any
		for _, tag := range strings.Split(v, ",") {
			tags = append(tags, strings.TrimSpace(tag))
		}
		return tags, true
	case []any:
		return append([]any(nil), v...), true
	}
	return nil, false
}

var unescape = strings.NewReplacer("`$", "$", "`\"", `"`, "``", "`", "`'", "'")

// powershellEscapes takes the backticks away that templates had to put before
// special characters.
func powershellEscapes(d *document) error {
	for _, p := range typed(d.provisioners, "powershell") {
		for _, name := range []string{"elevated_user", "elevated_password"} {
			if s, ok := p[name].(string); ok {
				p[name] = unescape.Replace(s)
			}
		}
		vars, _ := p["environment_vars"].([]any)
		if !texts(vars) {
			continue
		}
		for i, v := range vars {
			s, _ := v.(string)
			vars[i] = unescape.Replace(s)
		}
	}
	return nil
}

// texts tells whether all of a list are strings.
func texts(list []any) bool {
	for _, v := range list {
		if _, ok := v.(string); !ok {
			return false
		}
	}
	return true
}

func galaxyCommand(d *document) error {
	for _, p := range typed(d.provisioners, "ansible-local") {
		if is[string](p, "galaxycommand") {
			give(p, "galaxycommand", "galaxy_command")
		}
	}
	return nil
}
