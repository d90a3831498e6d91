// A button that copies what stands on the page; it shows only where the browser lets it.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).innerText);
    button.querySelector("span").textContent = button.dataset.done;
  });
}
