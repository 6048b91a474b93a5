// What somebody is writing outlives its page: neither the end of a login nor the end of what is edited takes it
// away. Without this the page would be loaded anew, and lead to the login or say that it is gone.
(() => {
  const TOLD = {
    out: "You are logged out. What you wrote is still here: log in again in another window (dorkos open), then send it.",
    gone: "What this page shows was deleted meanwhile. What you wrote stays here until you leave the page.",
  };
  const FIELDS = ":is(textarea, input:not([type=hidden], [type=radio], [type=checkbox]))";
  let isOut = false;

  // On a form that came back refused, what was typed is what its fields began with.
  function isWritten(field) {
    return field.value !== field.defaultValue || (field.value && document.getElementById("refused"));
  }

  function say(text) {
    let notice = document.getElementById("over");
    if (!notice) {
      notice = document.createElement("div");
      notice.id = "over";
      notice.className = "notice bad";
      notice.setAttribute("role", "alert");
      document.getElementById("main").prepend(notice);
    }
    notice.textContent = text;
  }

  document.addEventListener("dork:over", (event) => {
    if (![...document.querySelectorAll(`main form[method=post] ${FIELDS}`)].some(isWritten)) return;
    event.preventDefault();
    isOut ||= event.detail === "out";
    say(TOLD[event.detail]);
  });

  // After a login in another window the forms of this one need the secret of the new session.
  async function renew(form, submitter) {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const secret = fresh.querySelector("[name=form-secret]");
    if (!secret) return say(answer.status === 404 ? TOLD.gone : TOLD.out);
    for (const each of document.getElementsByName("form-secret")) each.value = secret.value;
    isOut = false;
    form.requestSubmit(submitter);
  }

  document.addEventListener("submit", (event) => {
    if (!isOut || event.target.method !== "post") return;
    event.preventDefault();
    event.stopPropagation();
    renew(event.target, event.submitter).catch(() => say("The server does not answer. What you wrote is still here."));
  }, true);
})();
