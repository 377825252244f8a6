from django.urls import include, path

from . import views

urlpatterns = [
    path("", views.page),
    path("<int:year>/", views.page, name="page"),
    path("reports/<int:year>/", views.report),
    path("task/", include("jobtastic_ext.web.django")),
]
