package registrar

import "container/heap"

// expiries is a heap of entries, the one that expires next at its top.
type expiries []*entry

// Len implements heap.Interface.
func (x expiries) Len() int { return len(x) }

// Less implements heap.Interface.
func (x expiries) Less(i, j int) bool { return x[i].Expires.Before(x[j].Expires) }

// Swap implements heap.Interface.
func (x expiries) Swap(i, j int) {
	x[i], x[j] = x[j], x[i]
	x[i].index, x[j].index = i, j
}

// Push implements heap.Interface.
func (x *expiries) Push(v any) {
	if e, ok := v.(*entry); ok {
		e.index = len(*x)
		*x = append(*x, e)
	}
}

// Pop implements heap.Interface.
func (x *expiries) Pop() any {
	old := *x
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*x = old[:len(old)-1]
	return e
}

func (x *expiries) add(e *entry)    { heap.Push(x, e) }
func (x *expiries) fix(e *entry)    { heap.Fix(x, e.index) }
func (x *expiries) remove(e *entry) { heap.Remove(x, e.index) }
