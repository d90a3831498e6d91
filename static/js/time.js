// Writes every <time data-form> in the viewer's own zone, in the studio in the creator's; the exact moment shows on hover.
const told = document.querySelector('meta[name="time-zone"]')?.content;
const zone = told ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
const page = document.documentElement.lang;
const language = navigator.languages.find((own) => own.startsWith(page)) ?? page;
const format = (options) => new Intl.DateTimeFormat(language, { timeZone: zone, ...options });
const forms = {
  moment: format({ day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
  soon: format({ weekday: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
  date: format({ day: "numeric", month: "short", year: "numeric" }),
};
const exact = format({ dateStyle: "full", timeStyle: "long" });
const SIX_DAYS = 6 * 24 * 3600 * 1000;

function localise(root) {
  for (const element of root.querySelectorAll("time[data-form]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.valueOf())) continue;
    // "Thu 14:00" is true only for the coming days.
    const far = element.dataset.form === "soon" && Math.abs(moment - Date.now()) > SIX_DAYS;
    element.textContent = forms[far ? "moment" : element.dataset.form].format(moment);
    element.title = exact.format(moment);
  }
}

localise(document);
document.addEventListener("htmx:load", (event) => localise(event.target.parentElement ?? document));
