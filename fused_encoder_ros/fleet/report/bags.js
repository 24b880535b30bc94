'use strict';
const table = document.querySelector('table.bags');
const rows = [...table.tBodies[0].rows];
const texts = rows.map(row => row.textContent.toLowerCase());
const names = new Intl.Collator(undefined, {numeric: true});

function show() {
  const words = document.querySelector('#filter').value.toLowerCase().split(/\s+/);
  rows.forEach((row, i) => { row.hidden = !words.every(word => texts[i].includes(word)); });
  const count = rows.filter(row => !row.hidden).length;
  document.querySelector('#shown').textContent = `${count.toLocaleString('en')} of ${rows.length.toLocaleString('en')}`;
}

function compare(a, b) {
  if (!a.classList.contains('figure')) return names.compare(a.textContent, b.textContent);
  return a.dataset.value - b.dataset.value;
}

// Figures go down at first, since the large ones are looked for; a cell without one is always last.
function sort(head) {
  const column = head.cellIndex;
  const first = rows[0].cells[column].classList.contains('figure') ? 'descending' : 'ascending';
  const other = first === 'ascending' ? 'descending' : 'ascending';
  const order = head.ariaSort === first ? other : first;
  for (const each of table.tHead.rows[0].cells) each.ariaSort = null;
  head.ariaSort = order;
  const isEmpty = row => row.cells[column].textContent === '–';
  const sorted = [...rows].sort((a, b) =>
    isEmpty(a) - isEmpty(b) || (order === 'ascending' ? 1 : -1) * compare(a.cells[column], b.cells[column]));
  table.tBodies[0].append(...sorted);
}

document.querySelector('#filter').addEventListener('input', show);
for (const head of table.tHead.rows[0].cells) head.firstChild.addEventListener('click', () => sort(head));
show();
