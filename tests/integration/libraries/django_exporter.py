"""Django with django-prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import include, path

from tests.integration.libraries import common

if TYPE_CHECKING:
    from django.http import HttpRequest

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    INSTALLED_APPS=["django_prometheus"],
    MIDDLEWARE=[
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        "django_prometheus.middleware.PrometheusAfterMiddleware",
    ],
    PROMETHEUS_EXPORT_MIGRATIONS=False,
    ROOT_URLCONF=__name__,
)


def greet(_: HttpRequest) -> HttpResponse:
    """Greet."""
    return HttpResponse(common.greet())


urlpatterns = [path("", greet), path("", include("django_prometheus.urls"))]
application = get_wsgi_application()
