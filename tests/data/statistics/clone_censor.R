# Clone, censor, weight of clone_censor.csv by R's survival: prints log hazard ratio, robust standard error, largest
# weight. Run in this folder. Simulated patients.
library(survival)
grace <- 3
x <- read.csv("clone_censor.csv")
x$id <- seq_len(nrow(x))
start <- ifelse(is.na(x$exposure), Inf, x$exposure)
within <- start <= grace
beyond <- x$time > grace
form <- function(stop, event, cut) {
  all <- data.frame(id = x$id, end = stop, event = event)
  survSplit(Surv(end, event) ~ ., all[stop > 0, ], cut = cut, start = "from", end = "to", event = "event")
}
# Untreated: Cox model of the time to treatment, weights from each start on, time zero included.
waiting <- data.frame(to = pmin(start, x$time, grace), left = start <= pmin(x$time, grace), x)
wait <- coxph(Surv(to, left) ~ frail + age, waiting, ties = "breslow")
base <- basehaz(wait, centered = FALSE)
hazard <- function(t) c(0, base$hazard)[findInterval(t, base$time) + 1]
relative <- exp(as.matrix(x[, c("frail", "age")]) %*% coef(wait))[, 1]
cuts <- sort(unique(c(start[within & start > 0], grace)))
none <- form(ifelse(within, pmin(start, x$time), x$time), x$event * (!within | start > x$time), cuts)
none$weight <- exp(hazard(none$from) * relative[none$id])
none$strategy <- 0
# Treated: logistic regression at the end of the grace period.
left <- beyond & !within
fit <- glm(within ~ frail + age, binomial, cbind(x, within)[beyond, ], epsilon = 1e-14)
treat <- form(ifelse(left, grace, x$time), x$event * !left, grace)
stay <- rep(1, nrow(x))
stay[beyond] <- fitted(fit)
treat$weight <- ifelse(treat$from >= grace, 1 / stay[treat$id], 1)
treat$strategy <- 1
both <- rbind(none, treat)
model <- coxph(Surv(from, to, event) ~ strategy, both, weights = weight, cluster = id, ties = "efron",
               control = coxph.control(eps = 1e-12, toler.chol = 1e-14))
cat(sprintf("%.12f\n", c(coef(model), sqrt(vcov(model)), max(both$weight))))
