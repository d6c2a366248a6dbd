// The choice of two pictures. Choosing the other side's picture swaps the two.
const selects = [...document.querySelectorAll('select')];
let chosen = selects.map((select) => select.value);
for (const [i, select] of selects.entries()) {
  select.addEventListener('change', () => {
    if (selects[0].value === selects[1].value) selects[1 - i].value = chosen[i];
    chosen = selects.map((select) => select.value);
    for (const layer of document.querySelectorAll('.stage > div')) {
      layer.className = ['left', 'right'][chosen.indexOf(layer.dataset.label)] ?? 'off';
    }
    document.querySelectorAll('.stage input').forEach(move);
  });
}

// The table.
const body = document.querySelector('tbody');
function compare(a, b) {
  if ('value' in a.dataset) return Number(a.dataset.value) - Number(b.dataset.value);
  return a.textContent.localeCompare(b.textContent, undefined, {numeric: true});
}
for (const button of document.querySelectorAll('thead button')) {
  button.addEventListener('click', () => {
    const header = button.parentElement;
    const descending = header.getAttribute('aria-sort') === 'ascending';
    for (const other of header.parentElement.cells) other.removeAttribute('aria-sort');
    header.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
    const i = header.cellIndex;
    const sign = descending ? -1 : 1;
    body.append(...[...body.rows].sort((a, b) => sign * compare(a.cells[i], b.cells[i])));
  });
}
body.addEventListener('click', (event) => {
  const link = event.target.closest('tr').querySelector('a');
  if (link && event.target !== link) link.click();
});
