// Before the element is there, so that no event is missed.
document.querySelector('jobtastic-progress')?.addEventListener('success', (event) => {
  const { columns, rows } = event.detail.result;
  const table = document.createElement('table');
  table.createCaption().textContent = `${rows.length} divisions`;
  const head = table.createTHead().insertRow();
  for (const column of columns) {
    const cell = document.createElement('th');
    cell.scope = 'col';
    cell.textContent = column;
    head.append(cell);
  }
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const value of row) line.insertCell().textContent = value;
  }
  document.getElementById('result').replaceChildren(table);
});
