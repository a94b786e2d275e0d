package executors

// rate counts what ended in the last seconds, for people: it is no part of the state.
type rate struct {
	marks [16]mark // by second
}

type mark struct {
	second int64
	total  uint64 // when it began
}

func (r *rate) note(now int64, total uint64) {
	if m := &r.marks[now/1000%16]; m.second != now/1000 {
		*m = mark{now / 1000, total}
	}
}

// perSecond is the average of the last ten seconds.
func (r *rate) perSecond(now int64, total uint64) float64 {
	first := mark{second: now / 1000, total: total}
	for _, m := range r.marks {
		if m.second > now/1000-10 && m.second < first.second {
			first = m
		}
	}
	if took := now - first.second*1000; took > 0 && first.total < total {
		return float64(total-first.total) / float64(took) * 1000
	}
	return 0
}
