"""How the page of a sweep looks, and the one thing that its script does: sorting."""

SWEEP_STYLE = """
.number { text-align: right } td.number { white-space: nowrap } td.notes { min-width: 14rem }
.failed { color: #b42318 } .control td { color: #60646c }
svg { max-width: min(46rem, 100%); height: auto; background: #fff }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer }
th button { text-align: inherit }
th button:hover, th[aria-sort] button { text-decoration: underline }
th[aria-sort=ascending] button::after { content: ' ▲' } th[aria-sort=descending] button::after { content: ' ▼' }
dt { color: #60646c } dd { margin: 0 0 .2rem 1rem; overflow-wrap: anywhere } li { overflow-wrap: anywhere }
@media (prefers-color-scheme: dark) {
  a { color: #8ab4f8 } a:visited { color: #c58af9 } .failed { color: #ff8a80 }
  th, dt, .muted, .control td { color: #a9afb9 }
}
"""

# Without it the table is ranked by the score. Empty cells stay at the end, whichever way it is sorted.
SCRIPT = """
document.querySelectorAll('th button').forEach(button => button.addEventListener('click', () => {
  const th = button.parentElement, table = th.closest('table'), body = table.tBodies[0], at = th.cellIndex;
  const up = th.getAttribute('aria-sort') !== 'ascending';
  table.querySelectorAll('th').forEach(other => other.removeAttribute('aria-sort'));
  th.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  const value = row => row.cells[at].dataset.value ?? row.cells[at].textContent;
  const compare = (a, b) => {
    const x = value(a), y = value(b);
    if (x === '' || y === '') return (x === '') - (y === '');
    const order = !isNaN(x) && !isNaN(y) ? x - y : x.localeCompare(y, undefined, {numeric: true});
    return up ? order : -order;
  };
  [...body.rows].sort(compare).forEach(row => body.append(row));
}));
"""
