package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// MaxFileBytes is the largest configuration file that is read.
const MaxFileBytes = 1 << 20

// environment is the file name given to problems of environment variables.
const environment = "environment"

// Problem is one wrong key.
type Problem struct {
	File   string // the file's name, or "environment"
	Line   int    // 0 when not in a file
	Key    string // sip.udp, or the variable's name
	Reason string
}

// String writes FILE:LINE: KEY: REASON.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		b.WriteString(":" + strconv.Itoa(p.Line))
	}
	if p.Key != "" {
		b.WriteString(": " + p.Key)
	}
	b.WriteString(": " + p.Reason)
	return b.String()
}

// Error lists every problem of a configuration.
type Error struct {
	Problems []Problem
}

// Error implements error, one problem a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Load reads the file over the defaults, then the environment ("NAME=value"
// entries) over that. An empty file name means no file. The error is an *Error
// that lists every problem, or that of reading the file.
func Load(file string, environ []string) (*Config, error) {
	return LoadOver(Default(), file, environ)
}

// LoadOver is Load with other defaults, such as Demo's. It changes base and
// returns it.
func LoadOver(base *Config, file string, environ []string) (*Config, error) {
	var data []byte
	if file != "" {
		f, err := os.Open(file) //nolint:gosec // the operator names the file
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		defer func() { _ = f.Close() }()
		if data, err = io.ReadAll(io.LimitReader(f, MaxFileBytes+1)); err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
	}
	return parse(base, file, data, environ)
}

// Parse reads configuration text over the defaults; name stands for the file
// in problems.
func Parse(name string, data []byte) (*Config, error) {
	return parse(Default(), name, data, nil)
}

func parse(base *Config, name string, data []byte, environ []string) (*Config, error) {
	r := reader{file: name, config: base, fields: map[string]field{}, sections: map[string]bool{}, source: map[string]Problem{}}
	for _, f := range fields() {
		r.fields[f.path] = f
		for i, c := range f.path {
			if c == '.' {
				r.sections[f.path[:i]] = true
			}
		}
	}
	r.readFile(data)
	r.readEnv(environ)
	r.crossCheck()
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b Problem) int {
			return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
		})
		return nil, &Error{Problems: r.problems}
	}
	return base, nil
}

// reader collects values and problems of one configuration.
type reader struct {
	file     string
	config   *Config
	fields   map[string]field
	sections map[string]bool
	problems []Problem
	// source remembers where a key was set last.
	source map[string]Problem
}

func (r *reader) wrong(line int, key, reason string) {
	r.problems = append(r.problems, Problem{File: r.file, Line: line, Key: key, Reason: reason})
}

// at blames a key where it was set.
func (r *reader) at(key, reason string) {
	p, ok := r.source[key]
	if !ok {
		p = Problem{File: r.file, Key: key}
	}
	if p.File == "" {
		p.File = "defaults"
	}
	p.Reason = reason
	r.problems = append(r.problems, p)
}

func (r *reader) readFile(data []byte) {
	if len(data) > MaxFileBytes {
		r.wrong(0, "", fmt.Sprintf("is larger than %d bytes", MaxFileBytes))
		return
	}
	if len(data) == 0 {
		return
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	if err := decode(dec, &doc); err != nil {
		if !errors.Is(err, io.EOF) {
			r.wrong(yamlLine(err), "", "is not YAML: "+yamlReason(err))
		}
		return
	}
	if err := decode(dec, &next); !errors.Is(err, io.EOF) {
		r.wrong(next.Line, "", "must hold one YAML document only")
		return
	}
	if len(doc.Content) == 1 {
		r.mapping("", doc.Content[0])
	}
}

// decode turns a panic of the YAML library, which fuzzing of other projects has
// met, into an error.
func decode(dec *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("yaml: %v", v)
		}
	}()
	if err := dec.Decode(n); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	return nil
}

func (r *reader) mapping(prefix string, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // "sip:" with nothing under it
	}
	if n.Kind != yaml.MappingNode {
		r.wrong(n.Line, prefix, "must hold keys and values")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		key := k.Value
		if prefix != "" {
			key = prefix + "." + key
		}
		switch {
		case k.Kind != yaml.ScalarNode:
			r.wrong(k.Line, prefix, "has a key that is not text")
		case seen[key]:
			r.wrong(k.Line, key, "is given twice")
		case r.sections[key]:
			r.mapping(key, v)
		default:
			r.scalar(key, k.Line, v)
		}
		seen[key] = true
	}
}

func (r *reader) scalar(key string, line int, v *yaml.Node) {
	f, ok := r.fields[key]
	if !ok {
		r.wrong(line, key, "is not a known key"+r.suggest(key))
		return
	}
	if v.Kind != yaml.ScalarNode {
		r.wrong(v.Line, key, "must be a single value")
		return
	}
	s := v.Value
	if v.Tag == "!!null" {
		s = ""
	}
	r.source[key] = Problem{File: r.file, Line: v.Line, Key: key}
	if err := f.set(r.config, s); err != nil {
		r.wrong(v.Line, key, err.Error())
	}
}

func (r *reader) readEnv(environ []string) {
	byEnv := make(map[string]field, len(r.fields))
	for path, f := range r.fields {
		byEnv[envName(path)] = f
	}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, EnvPrefix) {
			continue
		}
		f, ok := byEnv[name]
		if !ok {
			if r.ours(name) {
				r.problems = append(r.problems, Problem{File: environment, Key: name, Reason: "is not a known variable"})
			}
			continue
		}
		r.source[f.path] = Problem{File: environment, Key: name}
		if err := f.set(r.config, value); err != nil {
			r.problems = append(r.problems, Problem{File: environment, Key: name, Reason: err.Error()})
		}
	}
}

// ours reports whether a variable looks like a key of a known section, and so a
// misspelt one. Kubernetes sets CORDBOARD_SIP_SERVICE_HOST and the like for a
// service of that name.
func (r *reader) ours(name string) bool {
	for _, k := range []string{"_SERVICE_HOST", "_SERVICE_PORT", "_PORT_", "_TCP_ADDR"} {
		if strings.Contains(name, k) {
			return false
		}
	}
	for s := range r.sections {
		env := envName(s)
		if strings.HasPrefix(name, env+"_") && name != env+"_PORT" {
			return true
		}
	}
	return false
}

// suggest names the key that was probably meant.
func (r *reader) suggest(key string) string {
	best, bestDist := "", 4
	for path := range r.fields {
		if d := distance(path, key); d < bestDist || (d == bestDist && path < best) {
			best, bestDist = path, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is the Levenshtein distance, or a large number when it cannot be
// small.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost++
			}
			prev = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// yamlLine takes the line out of a YAML library's error text.
func yamlLine(err error) int {
	_, rest, ok := strings.Cut(err.Error(), "line ")
	if !ok {
		return 0
	}
	num, _, _ := strings.Cut(rest, ":")
	n, err := strconv.Atoi(num)
	if err != nil {
		return 0
	}
	return n
}

func yamlReason(err error) string {
	s := err.Error()
	if i := strings.LastIndex(s, ": "); i >= 0 {
		return s[i+2:]
	}
	return s
}
