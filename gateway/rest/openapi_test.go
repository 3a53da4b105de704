package rest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/cordboard/cordboard/gateway/auth"
)

type operation struct {
	ID          string                `json:"operationId"`
	Security    []map[string][]string `json:"security"`
	Scopes      []string              `json:"x-scopes"`
	RequestBody *struct {
		Content map[string]struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"content"`
	} `json:"requestBody"`
	Parameters []struct {
		Name string `json:"name"`
		In   string `json:"in"`
	} `json:"parameters"`
	method, path string
}

// operations reads what the gateway says of itself.
func operations(r *rig) []operation {
	r.t.Helper()
	a := r.want(r.do("GET", "/openapi.json", "", nil), http.StatusOK)
	var doc struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(a.body, &doc); err != nil {
		r.t.Fatal(err)
	}
	var out []operation
	for path, methods := range doc.Paths {
		for method, raw := range methods {
			var op operation
			if err := json.Unmarshal(raw, &op); err != nil {
				r.t.Fatal(err)
			}
			inPath := 0
			for _, p := range op.Parameters {
				if p.In == "path" {
					inPath++
				}
			}
			if inPath != strings.Count(path, "{") {
				r.t.Errorf("%s %s: %d of its parameters are read", method, path, inPath)
			}
			op.method, op.path = strings.ToUpper(method), "/api/v1"+fill(path)
			if op.ID != "events" { // a WebSocket, tested by itself
				out = append(out, op)
			}
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].path+out[i].method < out[j].path+out[j].method })
	return out
}

func fill(path string) string {
	for _, p := range [][2]string{{"{name}", "Support%3C-"}, {"{username}", "ana"}, {"{agent}", "me"}, {"{id}", "x"}, {"{guid}", "x"}} {
		path = strings.ReplaceAll(path, p[0], p[1])
	}
	return path
}

// check says whether an answer is a problem of the wanted status.
func check(a answer, wants ...int) error {
	var p struct {
		Status int    `json:"status"`
		Code   string `json:"code"`
		Title  string `json:"title"`
	}
	switch ct := a.head.Get("Content-Type"); {
	case !slices.Contains(wants, a.status):
		return fmt.Errorf("status %d, want %v: %.200s", a.status, wants, a.body)
	case ct != "application/problem+json":
		return fmt.Errorf("content type %q", ct)
	case json.Unmarshal(a.body, &p) != nil || p.Status != a.status || p.Code == "" || p.Title == "":
		return fmt.Errorf("no problem: %.200s", a.body)
	case a.head.Get("X-Content-Type-Options") != "nosniff":
		return fmt.Errorf("security headers are missing")
	}
	return nil
}

// Every operation of the document refuses what is wrong with a clear 4xx.
func TestEveryOperationRefusesBadInput(t *testing.T) { // issue: wrong JSON to each REST call
	r := newRig(t)
	ops := operations(r)
	if len(ops) < 40 {
		t.Fatalf("only %d operations", len(ops))
	}
	sealed := r.token(auth.ScopeRecordings) // nearly nothing
	wrong := map[string]string{}
	bodies := 0
	for _, op := range ops {
		name := op.ID
		bad := func(what string, err error) {
			if err != nil {
				wrong[name+": "+what] = err.Error()
			}
		}
		public := len(op.Security) == 0
		if !public {
			bad("no token", check(r.do(op.method, op.path, "", nil), 401))
			bad("wrong token", check(r.do(op.method, op.path, "cbs_nonsense", nil), 401))
			if !slices.Contains(op.Scopes, "recordings") {
				bad("wrong scope", check(r.do(op.method, op.path, sealed, nil), 403))
			}
		}
		bad("unknown query", check(r.do(op.method, op.path+"?nonsense=1", r.admin, body(op)), 422))
		if op.RequestBody == nil {
			continue
		}
		bodies++
		for what, b := range map[string]string{
			"broken": `{"a":`, "trailing": `{} {}`, "nothing": ``, "binary": "\x00\xff\xfe", "garbage": `<xml/>`,
		} {
			bad(what, check(r.do(op.method, op.path, r.admin, b), 400, 422))
		}
		for what, b := range map[string]string{
			"null": `null`, "number": `1`, "text": `"x"`, "unknown field": `{"nonsense":1}`, "list of numbers": `[1,2]`,
			"deep": strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		} {
			bad(what, check(r.do(op.method, op.path, r.admin, b), 400, 422))
		}
		for _, field := range fields(r, op) {
			for _, v := range []string{`{"x":{"y":[]}}`, `[[]]`, `-1.5e300`, `"\u0000"`} {
				a := r.do(op.method, op.path, r.admin, fmt.Sprintf(`{%q:%s}`, field, v))
				if a.status >= 500 || a.status < 400 {
					bad("field "+field+"="+v, fmt.Errorf("status %d: %.200s", a.status, a.body))
				}
			}
		}
		bad("content type", check(r.do(op.method, op.path, r.admin, `{}`, "Content-Type", "text/plain"), 415))
		bad("no content type", check(r.do(op.method, op.path, r.admin, `{}`, "Content-Type", "\t"), 415))
		size := 1<<20 + 1
		if op.path == "/api/v1/state" {
			size = 16<<20 + 1
		}
		bad("huge", check(r.do(op.method, op.path, r.admin, []byte(strings.Repeat(" ", size))), 413))
	}
	for what, err := range wrong {
		t.Errorf("%s: %s", what, err)
	}
	if bodies < 12 {
		t.Errorf("only %d operations take a body", bodies)
	}
	if strings.Contains(r.log.String(), `"level":"ERROR"`) {
		t.Error("bad input made the gateway log an error")
	}
	t.Logf("%d operations, %d with a body", len(ops), bodies)
}

func body(op operation) any {
	if op.RequestBody == nil {
		return nil
	}
	return "{}"
}

// fields are the properties of an operation's body.
func fields(r *rig, op operation) []string {
	r.t.Helper()
	var ref struct {
		Ref        string                     `json:"$ref"`
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(op.RequestBody.Content["application/json"].Schema, &ref); err != nil {
		r.t.Fatal(err)
	}
	if ref.Ref != "" {
		var doc struct {
			Components struct {
				Schemas map[string]struct {
					Properties map[string]json.RawMessage `json:"properties"`
				} `json:"schemas"`
			} `json:"components"`
		}
		if err := json.Unmarshal(r.do("GET", "/openapi.json", "", nil).body, &doc); err != nil {
			r.t.Fatal(err)
		}
		ref.Properties = doc.Components.Schemas[ref.Ref[strings.LastIndexByte(ref.Ref, '/')+1:]].Properties
	}
	var out []string
	for name := range ref.Properties {
		out = append(out, name)
	}
	return out
}

func TestUnknownAddressesAndMethods(t *testing.T) {
	r := newRig(t)
	seen := map[string]bool{}
	for _, op := range operations(r) {
		if seen[op.path] {
			continue
		}
		seen[op.path] = true
		a := r.do("PATCH", op.path, r.admin, nil)
		if err := check(a, 405); err != nil || a.head.Get("Allow") == "" {
			t.Errorf("PATCH %s: %v, allow %q", op.path, err, a.head.Get("Allow"))
		}
		if err := check(r.do("GET", op.path+"/x/y/z/../nothing", r.admin, nil), 404); err != nil {
			t.Errorf("below %s: %v", op.path, err)
		}
	}
	if err := check(r.do("GET", "/api/v1/"+strings.Repeat("x", 9000), r.admin, nil), 414); err != nil {
		t.Error(err)
	}
	if a := r.do("GET", "/healthz", "", nil, "X-Big", strings.Repeat("x", 40<<10)); a.status != 431 {
		t.Errorf("huge header: %d", a.status)
	}
}

func TestPanicIsAProblemAndTheGatewayGoesOn(t *testing.T) {
	r := newRig(t)
	r.calls.panics = true
	a := r.do("GET", "/api/v1/calls", r.admin, nil)
	if err := check(a, 500); err != nil || strings.Contains(string(a.body), "a bug") {
		t.Errorf("%v %s", err, a.body)
	}
	r.want(r.do("GET", "/healthz", "", nil), 200)
}

func TestHealthAndReadiness(t *testing.T) {
	r := newRig(t)
	r.want(r.do("GET", "/healthz", "", nil), 200)
	r.want(r.do("GET", "/readyz", "", nil), 200)
	r.ready = fmt.Errorf("journal: it does not take facts")
	if a := r.do("GET", "/readyz", "", nil); check(a, 503) != nil || a.head.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
}
