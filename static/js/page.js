// Small manners of every page; nothing here is needed for a page to work.
document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  target?.closest("[data-close]")?.parentElement.remove();
  // An open menu closes when something else is pressed.
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// A live region is read out only when it changes: say what was there on arrival.
const toasts = document.getElementById("toasts");
if (toasts?.childElementCount) {
  const arrived = [...toasts.children];
  toasts.replaceChildren();
  requestAnimationFrame(() => toasts.replaceChildren(...arrived));
}
