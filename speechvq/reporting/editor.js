// Fields that a person corrects, with the sound beside them; what was checked is saved as a table.
for (const editor of document.querySelectorAll(".editor")) {
  const entries = [...editor.querySelectorAll(".entry")];
  const status = editor.querySelector(".status");
  const save = editor.querySelector(".save");
  const storageKey = `speechvq ${editor.dataset.stamp}`;
  const field = (entry) => entry.querySelector("textarea");
  const box = (entry) => entry.querySelector(".checked");
  const player = (entry) => entry.querySelector("audio");
  let unsaved = false;

  const unsavedKey = `${storageKey} unsaved`;
  const setUnsaved = (value) => {
    unsaved = value;
    try { value ? localStorage.setItem(unsavedKey, "1") : localStorage.removeItem(unsavedKey); } catch { /* as below */ }
  };
  const listChecked = () => entries.filter((entry) => box(entry).checked);
  const show = () => {
    for (const entry of entries) {
      entry.classList.toggle("done", box(entry).checked);
      entry.querySelector(".empty").hidden = !(box(entry).checked && field(entry).value.trim() === "");
    }
    const count = listChecked().length;
    status.textContent = `${count} of ${entries.length} checked${unsaved ? ", not saved yet" : ""}`;
    save.disabled = count === 0;
  };
  const remember = () => {
    setUnsaved(true);
    const kept = listChecked().map((entry) => [entry.dataset.id, field(entry).value]);
    try { localStorage.setItem(storageKey, JSON.stringify(kept)); } catch { /* private windows have none */ }
    show();
  };
  const recall = () => {
    try {
      const kept = new Map(JSON.parse(localStorage.getItem(storageKey) ?? "[]"));
      for (const entry of entries) {
        if (!kept.has(entry.dataset.id)) continue;
        field(entry).value = kept.get(entry.dataset.id);
        box(entry).checked = true;
        unsaved = localStorage.getItem(unsavedKey) === "1";
      }
    } catch { /* nothing is remembered */ }
  };
  const play = (entry) => {
    for (const other of entries) if (other !== entry) player(other).pause();
    player(entry).currentTime = 0;
    player(entry).play().catch(() => {});
  };
  const goTo = (entry) => {
    if (!entry) return;
    field(entry).focus();
    entry.scrollIntoView({ block: "center" });
    play(entry);
  };
  // A cell that begins like a formula gets an apostrophe, as `neutralize_cell` in Python gives it.
  const toCell = (text) => {
    const line = text.replace(/\s+/g, " ").trim();
    const safe = /^'*[=+\-@]/.test(line) ? `'${line}` : line;
    return safe.includes('"') ? `"${safe.replaceAll('"', '""')}"` : safe;
  };

  entries.forEach((entry, number) => {
    field(entry).addEventListener("input", () => { box(entry).checked = true; remember(); });
    box(entry).addEventListener("change", remember);
    entry.querySelector(".second button")?.addEventListener("click", (event) => {
      field(entry).value = event.currentTarget.textContent;
      box(entry).checked = true;
      remember();
      field(entry).focus();
    });
    field(entry).addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter") {
        event.preventDefault();
        box(entry).checked = true;
        remember();
        goTo(entries[number + 1]);
      } else if (event.key === "Escape") {
        event.preventDefault();
        if (player(entry).paused) play(entry); else player(entry).pause();
      } else if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
        event.preventDefault();
        goTo(entries[number + (event.key === "ArrowDown" ? 1 : -1)]);
      }
    });
  });
  save.addEventListener("click", () => {
    const lines = listChecked().map((entry) => [entry.dataset.id, field(entry).value, "x"].map(toCell).join("\t"));
    const table = new Blob(["\ufeff", ["id\ttext\tchecked", ...lines, ""].join("\n")], { type: "text/tab-separated-values" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(table);
    link.download = editor.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    setUnsaved(false);
    show();
  });
  addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
  recall();
  show();
}
