package apply

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/cordboard/cordboard/gateway/api"
)

// MaxFileBytes is the largest state file.
const MaxFileBytes = 16 << 20

// maxProblems is how many problems of one file are listed.
const maxProblems = 100

// Problem is one wrong place of a state file.
type Problem struct {
	File   string
	Line   int
	Key    string // users[0].extension
	Reason string
}

// String writes FILE:LINE: KEY: REASON.
func (p Problem) String() string {
	s := p.File
	if p.Line > 0 {
		s += ":" + strconv.Itoa(p.Line)
	}
	if p.Key != "" {
		s += ": " + p.Key
	}
	return s + ": " + p.Reason
}

// FileError lists every problem of a state file.
type FileError struct {
	Problems []Problem
}

// Error implements error, one problem a line.
func (e *FileError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// File is a parsed state file.
type File struct {
	State api.State
	name  string
	lines map[string]int // by path
}

// Line returns where a key stands in the file, or its nearest parent; 0 when
// unknown.
func (f *File) Line(key string) int {
	for key != "" {
		if n, ok := f.lines[key]; ok {
			return n
		}
		i := strings.LastIndexAny(key, ".[")
		if i < 0 {
			break
		}
		key = key[:i]
	}
	return 0
}

// Parse reads a state file strictly: unknown keys, wrong types and keys given
// twice are errors with their line. The error is a *FileError.
func Parse(name string, data []byte) (*File, error) {
	d := decoder{file: &File{name: name, lines: map[string]int{}}}
	if len(data) > MaxFileBytes {
		d.wrong(0, "", fmt.Sprintf("is larger than %d bytes", MaxFileBytes))
		return nil, &FileError{d.problems}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	switch err := decodeNode(dec, &doc); {
	case errors.Is(err, io.EOF):
		return d.file, nil
	case err != nil:
		d.wrong(yamlLine(err), "", "is not YAML: "+yamlReason(err))
	default:
		if err := decodeNode(dec, &next); !errors.Is(err, io.EOF) {
			d.wrong(next.Line, "", "must hold one YAML document only")
		} else if len(doc.Content) == 1 && !null(doc.Content[0]) {
			d.value("", doc.Content[0], reflect.ValueOf(&d.file.State).Elem())
		}
	}
	if len(d.problems) > 0 {
		return nil, &FileError{d.problems}
	}
	return d.file, nil
}

// decodeNode turns a panic of the YAML library into an error.
func decodeNode(dec *yaml.Decoder, n *yaml.Node) (err error) {
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

func yamlLine(err error) int {
	_, rest, _ := strings.Cut(err.Error(), "line ")
	num, _, _ := strings.Cut(rest, ":")
	n, err := strconv.Atoi(num)
	if err != nil {
		return 0
	}
	return n
}

func yamlReason(err error) string {
	s := err.Error()
	return s[strings.LastIndex(s, ": ")+1:]
}

func null(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// decoder walks YAML nodes and Go values together.
type decoder struct {
	file     *File
	problems []Problem
}

func (d *decoder) wrong(line int, key, reason string) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, Problem{File: d.file.name, Line: line, Key: key, Reason: reason})
	}
}

func (d *decoder) value(path string, n *yaml.Node, v reflect.Value) {
	d.file.lines[path] = n.Line
	if n.Kind == yaml.AliasNode {
		d.wrong(n.Line, path, "must not be an alias")
		return
	}
	if v.Kind() == reflect.Pointer {
		if null(n) {
			return // as if the key were absent
		}
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct:
		d.object(path, n, v)
	case reflect.Slice:
		d.list(path, n, v)
	default:
		d.scalar(path, n, v)
	}
}

func (d *decoder) object(path string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.wrong(n.Line, path, "must hold keys and values")
		return
	}
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		fields[jsonName(v.Type().Field(i))] = v.Field(i)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		key := k.Value
		full := join(path, key)
		f, ok := fields[key]
		switch {
		case k.Kind != yaml.ScalarNode:
			d.wrong(k.Line, path, "has a key that is not text")
		case !ok:
			d.wrong(k.Line, full, "is not a known key; known are "+strings.Join(names(v.Type()), ", "))
		case seen[key]:
			d.wrong(k.Line, full, "is given twice")
		default:
			d.value(full, n.Content[i+1], f)
		}
		seen[key] = true
	}
	for i := range v.NumField() {
		t := v.Type().Field(i)
		if name := jsonName(t); t.Tag.Get("minLength") == "1" && !seen[name] {
			d.wrong(n.Line, join(path, name), "is missing")
		}
	}
}

func (d *decoder) list(path string, n *yaml.Node, v reflect.Value) {
	if null(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.wrong(n.Line, path, "must be a list")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, c := range n.Content {
		d.value(fmt.Sprintf("%s[%d]", path, i), c, out.Index(i))
	}
	v.Set(out)
}

func (d *decoder) scalar(path string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.wrong(n.Line, path, "must be a single value")
		return
	}
	switch v.Kind() {
	case reflect.String:
		// numbers are taken as they are written: an extension needs no quotes
		if null(n) || n.Tag == "!!binary" {
			d.wrong(n.Line, path, "must be text")
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		if n.Tag != "!!bool" {
			d.wrong(n.Line, path, "must be true or false")
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Int:
		i, err := strconv.ParseInt(n.Value, 10, 32)
		if n.Tag != "!!int" || err != nil {
			d.wrong(n.Line, path, "must be a whole number")
			return
		}
		v.SetInt(i)
	default:
		d.wrong(n.Line, path, "cannot be given in a file")
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func names(t reflect.Type) []string {
	out := make([]string, t.NumField())
	for i := range out {
		out[i] = jsonName(t.Field(i))
	}
	return out
}

// Format writes a state in the form that Parse reads.
func Format(s api.State) ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(encode(reflect.ValueOf(s))); err != nil {
		return nil, fmt.Errorf("write state: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("write state: %w", err)
	}
	return b.Bytes(), nil
}

func encode(v reflect.Value) *yaml.Node {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for i := range v.NumField() {
			f, t := v.Field(i), v.Type().Field(i)
			if strings.Contains(t.Tag.Get("json"), ",omitempty") && f.IsZero() {
				continue
			}
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: jsonName(t)}, encode(f))
		}
		return n
	case reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		if v.Type().Elem().Kind() != reflect.Struct || v.Len() == 0 {
			n.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			n.Content = append(n.Content, encode(v.Index(i)))
		}
		return n
	case reflect.String:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v.String(), Style: quote(v.String())}
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(v.Interface())}
	}
}

// quote keeps plain words bare and quotes everything that YAML might read
// otherwise.
func quote(s string) yaml.Style {
	word := s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '_' && r != ' ' && r != '-'
	}) && s[0] != '-' && s[0] != ' ' && s[len(s)-1] != ' '
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
		word = false
	}
	if word {
		return 0
	}
	return yaml.DoubleQuotedStyle
}
