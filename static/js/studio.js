// The studio's small helps. Every page works without them.

// The address of a studio is proposed from its name, until somebody types one.
const slug = document.querySelector("input[name=slug]");
const name = document.querySelector("input[name=name]");
if (slug && name && !slug.value) {
  const propose = () => {
    slug.value = name.value
      .normalize("NFKD")
      .replace(/[\u0300-\u036f'’]/g, "")
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, "-")
      .replace(/^-+|-+$/g, "")
      .slice(0, 60);
  };
  name.addEventListener("input", propose);
  slug.addEventListener("input", () => name.removeEventListener("input", propose), { once: true });
}

// The browser knows its zone; the form may not.
const zone = document.querySelector("select[data-propose-zone]");
const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && [...zone.options].some((option) => option.value === here)) zone.value = here;

// A placeholder goes where the cursor is.
document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-insert]") : null;
  if (!button) return;
  const field = document.getElementById(button.dataset.into);
  field.setRangeText(button.dataset.insert, field.selectionStart, field.selectionEnd, "end");
  field.focus();
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.dispatchEvent(new Event("change", { bubbles: true }));
});
