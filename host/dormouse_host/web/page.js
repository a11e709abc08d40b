// Writes every <time data-at> as what it is from now, each second. Numbers alone come in, text alone goes out.
(() => {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const span = (s) => { for (const [length, unit] of units) if (s >= 2 * length || length === 1) return `${Math.floor(s / length)} ${unit}`; };
  const write = () => {
    for (const each of document.querySelectorAll("time[data-at]")) {
      const at = Number(each.dataset.at), ahead = at - Date.now() / 1000;
      const late = each.closest(".overdue, .late");
      const said = ahead > 0 ? `in ${span(ahead)}` : late ? `overdue ${span(-ahead)}` : `${span(-ahead)} ago`;
      if (each.textContent !== said) { each.textContent = said; each.title = new Date(at * 1000).toLocaleString(); each.dateTime = new Date(at * 1000).toISOString(); }
    }
  };
  setInterval(write, 1000);
  const start = () => { write(); new MutationObserver(write).observe(document.body, { childList: true, subtree: true }); };
  document.body ? start() : document.addEventListener("DOMContentLoaded", start);
  document.addEventListener("keydown", (event) => {
    if (event.target.closest?.("input, textarea, select, [contenteditable]") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { const field = document.querySelector("[data-search]"); if (field) { event.preventDefault(); field.focus(); } }
  });
})();
