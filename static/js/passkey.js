// Ties the page's form to django-allauth's part of adding or showing a passkey, and says in words what the browser refused.
const form = document.querySelector("form[data-passkey]");
const button = document.getElementById("passkey");

function say(name) {
  const refusals = [...document.querySelectorAll("[data-refusal]")];
  const meant = refusals.find((one) => one.dataset.refusal === name) ?? refusals.find((one) => one.dataset.refusal === "other");
  for (const one of refusals) one.hidden = one !== meant;
}

document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  say(event.detail.exception.name);
});

if (window.PublicKeyCredential) {
  const ids = { data: "passkey_data", credential: form.elements.credential.id, add: button.id, authenticate: button.id };
  window.allauth.webauthn.forms[form.dataset.passkey]({ ids });
} else {
  say("other");
  button.disabled = true;
}
